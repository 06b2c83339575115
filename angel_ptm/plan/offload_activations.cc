#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

// Activations, and unit gradients that wait for another contribution (a tied embedding's waits through the whole
// backward pass).
bool MayLeave(const Region& region, TierKind tier) {
  return !region.permanent && region.range.tier == tier &&
         (region.memory_class == MemoryClass::kActivations || region.memory_class == MemoryClass::kUnitGradients);
}

// One sweep over the steps that tracks the set of resident buffers. When a step needs more than the budget, residents
// that it does not touch leave, farthest next use first. A victim leaves right after its previous use and returns right
// before its next use. So its bytes are free from here until then, and also at steps that the sweep has already passed.
class Offloader {
 public:
  Offloader(const Graph& graph, Segment& segment, TierKind tier, int64_t page_bytes)
      : graph_(graph),
        segment_(segment),
        tier_(tier),
        next_tier_(Toward(tier, TierKind::kFile)),
        page_bytes_(page_bytes),
        use_(segment.regions.size()),
        touched_(segment.steps.size()),
        departures_(segment.steps.size()),
        arrivals_(segment.steps.size()) {}

  absl::Status FitWithin(int64_t budget) {
    UpdateLifetimes(segment_);
    CollectUses();
    const std::vector<int64_t> live = LiveBytes(segment_, tier_);
    for (int32_t i = 0; i < static_cast<int32_t>(segment_.steps.size()); ++i) {
      for (int32_t r : touched_[i]) BeginUse(r);
      while (live[i] - away_bytes_ > budget) {
        if (residents_.empty()) return TooLarge(i, live[i] - away_bytes_, budget);
        FarthestNextUseLeaves();
      }
      for (int32_t r : touched_[i]) EndUse(r);
    }
    InsertMoves();
    UpdateLifetimes(segment_);
    return absl::OkStatus();
  }

 private:
  // A buffer's uses and the sweep's position among them.
  struct Uses {
    std::vector<int32_t> steps;  // that touch it, ascending
    size_t next = 0;             // index of the first one the sweep has not passed
    bool away = false;
  };
  // Orders residents by next use, then by size, so that fewer moves free enough.
  using Key = std::tuple<int32_t, int64_t, int32_t>;  // next use, bytes, region

  void CollectUses() {
    for (int32_t i = 0; i < static_cast<int32_t>(segment_.steps.size()); ++i) {
      ForEachPlace(graph_, segment_.steps[i], [&](const Place& p, bool) {
        if (!MayLeave(segment_.regions[p.region], tier_)) return;
        std::vector<int32_t>& uses = use_[p.region].steps;
        if (!uses.empty() && uses.back() == i) return;
        uses.push_back(i);
        touched_[i].push_back(p.region);
      });
    }
  }

  int64_t Bytes(int32_t r) const { return segment_.regions[r].range.bytes; }
  Key KeyOf(int32_t r) const { return {use_[r].steps[use_[r].next], Bytes(r), r}; }

  // BeginUse and EndUse enclose the step that uses r: meanwhile r is resident and may not leave.
  void BeginUse(int32_t r) {
    if (use_[r].away) {
      use_[r].away = false;
      away_bytes_ -= Bytes(r);
    } else {
      residents_.erase(KeyOf(r));
    }
  }
  void EndUse(int32_t r) {
    if (++use_[r].next < use_[r].steps.size()) residents_.insert(KeyOf(r));
  }

  void FarthestNextUseLeaves() {
    const int32_t r = std::get<2>(*residents_.rbegin());
    residents_.erase(KeyOf(r));
    use_[r].away = true;
    away_bytes_ += Bytes(r);
    departures_[use_[r].steps[use_[r].next - 1]].push_back(r);
    arrivals_[use_[r].steps[use_[r].next]].push_back(r);
  }

  int32_t AddRegion(Region region) {
    segment_.regions.push_back(std::move(region));
    return static_cast<int32_t>(segment_.regions.size()) - 1;
  }

  // The region in which a buffer waits: the same, rounded up to whole blocks, in which files are written.
  Region OnNextTier(Region region) const {
    region.label = absl::StrCat(absl::StripSuffix(region.label, " on host"),
                                next_tier_ == TierKind::kFile ? " in file" : " on host");
    region.range = {next_tier_, -1, AlignedUp(next_tier_, region.range.bytes)};
    return region;
  }

  Step MoveStep(int32_t dst, int32_t src, int64_t bytes) const {
    const TierKind from = segment_.regions[src].range.tier, to = segment_.regions[dst].range.tier;
    Step step{.kind = StepKind::kMove, .lane = FindLink(from, to)->lane};
    step.src = {src, 0, bytes};
    step.dst = {dst, 0, bytes};
    step.page_count = (bytes + page_bytes_ - 1) / page_bytes_;
    return step;
  }

  // Inserts the moves. Every stay that begins with an arrival becomes a region of its own.
  void InsertMoves() {
    std::vector<int32_t> stay(segment_.regions.size()), away(segment_.regions.size(), kNone);
    for (size_t r = 0; r < stay.size(); ++r) stay[r] = static_cast<int32_t>(r);
    std::vector<Step> steps;
    for (size_t i = 0; i < segment_.steps.size(); ++i) {
      for (int32_t r : arrivals_[i]) {
        stay[r] = AddRegion(segment_.regions[r]);
        steps.push_back(MoveStep(stay[r], away[r], Bytes(r)));
      }
      Step step = std::move(segment_.steps[i]);
      ForEachPlace(graph_, step, [&](Place& p, bool) { p.region = stay[p.region]; });
      steps.push_back(std::move(step));
      for (int32_t r : departures_[i]) {
        away[r] = AddRegion(OnNextTier(segment_.regions[r]));
        steps.push_back(MoveStep(away[r], stay[r], Bytes(r)));
      }
    }
    segment_.steps = std::move(steps);
  }

  // "computing layers.0.mlp.swiglu.y (Swiglu)", "update of unit layers.0.dense"
  std::string TextOf(const Step& step) const {
    if (step.kind != StepKind::kCompute) {
      return absl::StrCat(Name(step.kind),
                          step.unit == kNone ? "" : absl::StrCat(" of unit ", graph_.units()[step.unit].name));
    }
    const Op& op = graph_.ops[step.op];
    const auto output = std::find_if(op.outputs.begin(), op.outputs.end(), [](TensorId t) { return t != kNone; });
    APTM_CHECK(output != op.outputs.end(), step.op);
    return absl::StrCat("computing ", graph_.tensors[*output].name, " (", Name(op.kind), ")");
  }

  absl::Status TooLarge(int32_t at, int64_t live, int64_t budget) const {
    return absl::ResourceExhaustedError(absl::StrCat(TextOf(segment_.steps[at]), " needs ", FormatBytes(live), " of ",
                                                     Name(tier_), " memory at once, ", FormatBytes(budget),
                                                     " are left for it"));
  }

  const Graph& graph_;
  Segment& segment_;
  const TierKind tier_, next_tier_;
  const int64_t page_bytes_;
  std::vector<Uses> use_;                         // by region
  std::vector<std::vector<int32_t>> touched_;     // buffers that may leave, by step
  std::vector<std::vector<int32_t>> departures_;  // by step after which they leave
  std::vector<std::vector<int32_t>> arrivals_;    // by step before which they return
  std::set<Key> residents_;                       // alive, not in use at the sweep's step
  int64_t away_bytes_ = 0;
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

int64_t MostLiveBytes(const Segment& segment, TierKind tier) {
  const std::vector<int64_t> live = LiveBytes(segment, tier);
  return live.empty() ? 0 : *std::max_element(live.begin(), live.end());
}

int64_t LeastLiveBytes(const Graph& graph, const Segment& segment, TierKind tier) {
  std::vector<int64_t> need(segment.steps.size() + 1, 0);
  for (const Region& region : segment.regions) {
    const bool stays = !region.permanent && region.first_step != kNone && region.range.tier == tier;
    if (!stays || MayLeave(region, tier)) continue;
    need[region.first_step] += region.range.bytes;
    need[region.last_step + 1] -= region.range.bytes;
  }
  int64_t least = 0, live = 0;
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    live += need[i];
    int64_t own = 0;
    std::vector<int32_t> seen;
    ForEachPlace(graph, segment.steps[i], [&](const Place& p, bool) {
      const Region& region = segment.regions[p.region];
      if (!MayLeave(region, tier) || std::find(seen.begin(), seen.end(), p.region) != seen.end()) return;
      seen.push_back(p.region);
      own += region.range.bytes;
    });
    least = std::max(least, live + own);
  }
  return least;
}

absl::Status OffloadActivations(const Graph& graph, Segment& segment, TierKind tier, int64_t budget,
                                int64_t page_bytes) {
  return Offloader(graph, segment, tier, page_bytes).FitWithin(budget);
}

}  // namespace angel_ptm
