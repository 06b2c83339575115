#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

using Counts = std::array<int32_t, kLaneCount>;  // steps finished, by lane

void RaiseTo(Counts& a, const Counts& b) {
  for (int l = 0; l < kLaneCount; ++l) a[l] = std::max(a[l], b[l]);
}

// Who touched each byte range of a tier last.
class AccessMap {
 public:
  // Adds to `waits` what an access of [begin, end) must wait for, and records it as step number `number` (1-based) of
  // `lane`.
  void Access(int64_t begin, int64_t end, bool writes, Lane lane, int32_t number, Counts& waits) {
    Split(begin);
    Split(end);
    auto it = ranges_.lower_bound(begin);
    for (int64_t at = begin; at < end;) {
      if (it == ranges_.end() || it->first > at) {
        const int64_t next = it == ranges_.end() ? end : std::min(end, it->first);
        it = ranges_.emplace_hint(it, at, Range{.end = next});
      }
      Range& range = it->second;
      RaiseTo(waits, range.writes);
      if (writes) {
        RaiseTo(waits, range.reads);
        range.reads = {};
        range.writes = {};
        range.writes[static_cast<int>(lane)] = number;
      } else {
        range.reads[static_cast<int>(lane)] = number;
      }
      at = range.end;
      ++it;
    }
  }

 private:
  struct Range {
    int64_t end = 0;
    Counts writes = {}, reads = {};
  };

  void Split(int64_t at) {
    auto it = ranges_.upper_bound(at);
    if (it == ranges_.begin()) return;
    --it;
    if (it->first == at || it->second.end <= at) return;
    Range tail = it->second;
    it->second.end = at;
    ranges_.emplace(at, tail);
  }

  std::map<int64_t, Range> ranges_;  // by begin, disjoint
};

}  // namespace

void OrderSteps(const Graph& graph, Segment& segment) {
  std::array<AccessMap, kTierCount> tiers;
  constexpr int kComm = static_cast<int>(Lane::kComm);
  Counts issued = {};
  int32_t norm_number = 0;
  std::array<Counts, kLaneCount> known = {};            // what each lane's latest step implies to have finished
  std::array<std::vector<Counts>, kLaneCount> implied;  // by lane and step number - 1
  for (Step& step : segment.steps) {
    const int lane = static_cast<int>(step.lane);
    const int32_t number = ++issued[lane];
    Counts waits = {};
    ForEachPlace(graph, step, [&](const Place& place, bool writes) {
      const MemoryRange& range = segment.regions[place.region].range;
      const int64_t begin = range.offset + place.begin;
      tiers[static_cast<int>(range.tier)].Access(begin, begin + place.bytes, writes, step.lane, number, waits);
    });
    // The norm decides about every update behind it: data that has no address.
    if (step.kind == StepKind::kNorm) norm_number = number;
    if (step.kind == StepKind::kUpdate) waits[kComm] = std::max(waits[kComm], norm_number);
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
    // A wait may have become implied by another wait's own.
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
