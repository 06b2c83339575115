#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

// A stay that is alive but untouched at some step.
struct Candidate {
  int32_t region = kNone;
  int32_t previous_use = kNone, next_use = kNone;
};

class Offloader {
 public:
  Offloader(const Graph& graph, Segment& segment, int64_t page_bytes)
      : graph_(graph), segment_(segment), page_bytes_(page_bytes) {}

  absl::Status FitWithin(int64_t budget) {
    // Everything before `at` fits already: an offload frees bytes behind its own position and adds none before it.
    for (size_t at = 0; at < segment_.steps.size();) {
      UpdateLifetimes(segment_);
      const std::vector<int64_t> live = LiveBytes(segment_, TierKind::kDevice);
      while (at < live.size() && live[at] <= budget) ++at;
      if (at == live.size()) break;
      const Candidate victim = FarthestNextUse(static_cast<int32_t>(at));
      if (victim.region == kNone) return TooLarge(at, live[at], budget);
      Offload(victim);
      at = static_cast<size_t>(victim.previous_use);
    }
    UpdateLifetimes(segment_);
    return absl::OkStatus();
  }

 private:
  bool Touches(int32_t step, int32_t region) const {
    bool touches = false;
    ForEachPlace(graph_, segment_.steps[step], [&](const Place& p, bool) { touches |= p.region == region; });
    return touches;
  }

  Candidate FarthestNextUse(int32_t at) const {
    Candidate best;
    for (int32_t r = 0; r < static_cast<int32_t>(segment_.regions.size()); ++r) {
      const Region& region = segment_.regions[r];
      if (region.memory_class != MemoryClass::kActivations || region.range.tier != TierKind::kDevice) continue;
      if (region.first_step >= at || region.last_step <= at || Touches(at, r)) continue;
      Candidate c{r, at, at};
      while (!Touches(c.previous_use, r)) --c.previous_use;
      while (!Touches(c.next_use, r)) ++c.next_use;
      // A stay that begins with the arrival right before this gap gains nothing by leaving at once.
      const bool better =
          best.region == kNone || c.next_use > best.next_use ||
          (c.next_use == best.next_use && region.range.bytes > segment_.regions[best.region].range.bytes);
      if (better) best = c;
    }
    return best;
  }

  void Offload(const Candidate& c) {
    const Region original = segment_.regions[c.region];
    const Place device{c.region, 0, original.range.bytes};
    Region host = original;
    absl::StrAppend(&host.label, " on host");
    host.range = {TierKind::kHost, -1, original.range.bytes};
    const Place on_host{AddRegion(std::move(host)), 0, original.range.bytes};
    Region again = original;
    again.range.offset = -1;
    const Place back{AddRegion(std::move(again)), 0, original.range.bytes};

    for (int32_t i = c.next_use; i < static_cast<int32_t>(segment_.steps.size()); ++i) {
      ForEachPlace(graph_, segment_.steps[i], [&](Place& p, bool) {
        if (p.region == c.region) p.region = back.region;
      });
    }
    segment_.steps.insert(segment_.steps.begin() + c.next_use, MoveStep(back, on_host, Lane::kCopyIn));
    segment_.steps.insert(segment_.steps.begin() + c.previous_use + 1, MoveStep(on_host, device, Lane::kCopyOut));
  }

  int32_t AddRegion(Region region) {
    segment_.regions.push_back(std::move(region));
    return static_cast<int32_t>(segment_.regions.size()) - 1;
  }

  Step MoveStep(Place dst, Place src, Lane lane) const {
    Step step{.kind = StepKind::kMove, .lane = lane};
    step.src = src;
    step.dst = dst;
    step.page_count = (src.bytes + page_bytes_ - 1) / page_bytes_;
    return step;
  }

  absl::Status TooLarge(size_t at, int64_t live, int64_t budget) const {
    const Step& step = segment_.steps[at];
    const std::string what = step.kind == StepKind::kCompute ? Name(graph_.ops[step.op].kind) : Name(step.kind);
    return absl::ResourceExhaustedError(absl::StrCat("step ", at, " (", what, ") needs ", FormatBytes(live),
                                                     " of device memory at once, ", FormatBytes(budget),
                                                     " are left for it"));
  }

  const Graph& graph_;
  Segment& segment_;
  const int64_t page_bytes_;
};

}  // namespace

std::vector<int64_t> LiveBytes(const Segment& segment, TierKind tier) {
  std::vector<int64_t> live(segment.steps.size() + 1, 0);
  for (const Region& region : segment.regions) {
    if (region.permanent || region.range.tier != tier || region.first_step == kNone) continue;
    live[region.first_step] += region.range.bytes;
    live[region.last_step + 1] -= region.range.bytes;
  }
  for (size_t i = 1; i < live.size(); ++i) live[i] += live[i - 1];
  live.pop_back();
  return live;
}

absl::Status OffloadActivations(const Graph& graph, Segment& segment, int64_t budget, int64_t page_bytes) {
  return Offloader(graph, segment, page_bytes).FitWithin(budget);
}

}  // namespace angel_ptm
