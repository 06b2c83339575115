#include <algorithm>
#include <array>
#include <vector>

#include "angel_ptm/plan/access_map.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

using Counts = std::array<int32_t, kLaneCount>;  // steps finished, by lane

void RaiseTo(Counts& a, const Counts& b) {
  for (int l = 0; l < kLaneCount; ++l) a[l] = std::max(a[l], b[l]);
}

// The latest uses of bytes: the numbers of steps, by lane.
struct LastUse {
  Counts writes = {}, reads = {};

  void Add(const LastUse& other) {
    RaiseTo(writes, other.writes);
    RaiseTo(reads, other.reads);
  }
};

}  // namespace

void OrderSteps(const Graph& graph, Segment& segment) {
  std::array<AccessMap<LastUse>, kTierCount> tiers;
  constexpr int kComm = static_cast<int>(Lane::kComm);
  Counts issued = {};
  int32_t norm_number = 0;
  std::array<Counts, kLaneCount> known = {};            // by lane: what its latest step implies to have finished
  std::array<std::vector<Counts>, kLaneCount> implied;  // by lane and step number - 1
  for (Step& step : segment.steps) {
    const int lane = static_cast<int>(step.lane);
    const int32_t number = ++issued[lane];
    Counts waits = {};
    ForEachPlace(graph, step, [&](const Place& place, bool writes) {
      const MemoryRange& range = segment.regions[place.region].range;
      const auto see = [&](const LastUse& use) {
        RaiseTo(waits, use.writes);
        if (writes) RaiseTo(waits, use.reads);
      };
      const auto note = [&](LastUse& use, bool only) {
        if (writes && only) use = {};
        (writes ? use.writes : use.reads)[lane] = number;
      };
      tiers[static_cast<int>(range.tier)].Access(place, range.offset, range.bytes, see, note);
    });
    // All later updates depend on the norm's result, which has no address.
    if (step.kind == StepKind::kNorm) norm_number = number;
    if (step.kind == StepKind::kUpdate || step.kind == StepKind::kDeliver)
      waits[kComm] = std::max(waits[kComm], norm_number);
    waits[lane] = 0;
    Counts after = known[lane];
    for (int l = 0; l < kLaneCount; ++l) {
      if (waits[l] <= known[lane][l]) {
        waits[l] = 0;
        continue;
      }
      after[l] = std::max(after[l], waits[l]);
      RaiseTo(after, implied[l][waits[l] - 1]);
    }
    // Drop waits that another remaining wait implies.
    for (int l = 0; l < kLaneCount; ++l) {
      for (int m = 0; m < kLaneCount && waits[l] > 0; ++m) {
        if (m != l && waits[m] > 0 && implied[m][waits[m] - 1][l] >= waits[l]) waits[l] = 0;
      }
    }
    after[lane] = number;
    known[lane] = after;
    implied[lane].push_back(after);
    step.waits = waits;
  }
}

}  // namespace angel_ptm
