#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "angel_ptm/base/check.h"
#include "angel_ptm/plan/access_map.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

// How buffers arrive on a tier and leave it: by collectives, or by moves between it and the next tier. On the host,
// moves from the device that an update on the host needs count as arrivals, too.
struct Traffic {
  TierKind tier;
  Lane in, out;
  bool collectives;

  bool Arrives(const Step& step) const {
    if (step.kind == StepKind::kAllGather) return collectives;
    return step.kind == StepKind::kMove && (step.lane == in || (step.in_update && ComesFromDevice(step)));
  }
  bool ComesFromDevice(const Step& step) const {
    return tier == TierKind::kHost && step.lane == FindLink(TierKind::kDevice, tier)->lane;
  }
  bool Leaves(const Step& step) const {
    return (collectives && step.kind == StepKind::kReduceScatter) || (step.kind == StepKind::kMove && step.lane == out);
  }
  bool Holds(const Region& region) const {
    return !region.permanent && region.first_step != kNone && region.range.tier == tier;
  }
  // The steps by which prefetch distance is counted.
  bool Computes(const Step& step) const {
    return step.lane == Lane::kCompute || (tier == TierKind::kHost && step.lane == Lane::kHostCompute);
  }
};

Traffic TrafficOf(TierKind tier) {
  APTM_CHECK(tier != TierKind::kFile);
  const TierKind next = tier == TierKind::kDevice ? TierKind::kHost : TierKind::kFile;
  return {tier, FindLink(next, tier)->lane, FindLink(tier, next)->lane, tier == TierKind::kDevice};
}

// Live bytes by step, in a tree of maxima: adding to a range of steps and finding a step with too little room take time
// proportional to the height of the tree.
class LiveTree {
 public:
  explicit LiveTree(const std::vector<int64_t>& live) : steps_(static_cast<int32_t>(live.size())) {
    size_t leaves = 1;
    while (leaves < live.size()) leaves *= 2;
    nodes_.resize(2 * leaves);
    if (steps_ > 0) Build(1, 0, steps_ - 1, live);
  }

  // Adds `bytes` to steps [first, last].
  void Add(int32_t first, int32_t last, int64_t bytes) {
    if (first <= last) Add(1, 0, steps_ - 1, {first, last}, bytes);
  }
  // The last step of [first, last] with more than `bytes`; first - 1 if there is none.
  int32_t LastAbove(int32_t first, int32_t last, int64_t bytes) {
    const int32_t found = first > last ? kNone : Find(1, 0, steps_ - 1, {first, last}, bytes, /*right_first=*/true);
    return found == kNone ? first - 1 : found;
  }
  // The first such step; last + 1 if there is none.
  int32_t FirstAbove(int32_t first, int32_t last, int64_t bytes) {
    const int32_t found = first > last ? kNone : Find(1, 0, steps_ - 1, {first, last}, bytes, /*right_first=*/false);
    return found == kNone ? last + 1 : found;
  }

  int64_t visits() const { return visits_; }

 private:
  struct Node {
    int64_t most = 0;   // of the steps below, `added` included
    int64_t added = 0;  // to all of them
  };
  struct Stretch {
    int32_t first, last;
  };

  void Build(int32_t node, int32_t low, int32_t high, const std::vector<int64_t>& live) {
    if (low == high) {
      nodes_[node].most = live[low];
      return;
    }
    const int32_t middle = (low + high) / 2;
    Build(2 * node, low, middle, live);
    Build(2 * node + 1, middle + 1, high, live);
    nodes_[node].most = std::max(nodes_[2 * node].most, nodes_[2 * node + 1].most);
  }

  void Add(int32_t node, int32_t low, int32_t high, Stretch where, int64_t bytes) {
    ++visits_;
    if (high < where.first || low > where.last) return;
    Node& n = nodes_[node];
    if (where.first <= low && high <= where.last) {
      n.most += bytes;
      n.added += bytes;
      return;
    }
    const int32_t middle = (low + high) / 2;
    Add(2 * node, low, middle, where, bytes);
    Add(2 * node + 1, middle + 1, high, where, bytes);
    n.most = std::max(nodes_[2 * node].most, nodes_[2 * node + 1].most) + n.added;
  }

  int32_t Find(int32_t node, int32_t low, int32_t high, Stretch where, int64_t bytes, bool right_first) {
    ++visits_;
    const Node& n = nodes_[node];
    if (high < where.first || low > where.last || n.most <= bytes) return kNone;
    if (low == high) return low;
    const int32_t middle = (low + high) / 2;
    for (const bool right : {right_first, !right_first}) {
      const int32_t found = right ? Find(2 * node + 1, middle + 1, high, where, bytes - n.added, right_first)
                                  : Find(2 * node, low, middle, where, bytes - n.added, right_first);
      if (found != kNone) return found;
    }
    return kNone;
  }

  int32_t steps_;
  std::vector<Node> nodes_;  // 1: the root; children of n: 2n, 2n + 1
  int64_t visits_ = 0;
};

// Positions in the issue order from which on conflicting uses of bytes may be placed: after the last write, and after
// the last read.
struct Bounds {
  int32_t written = 0, read = 0;

  void Add(const Bounds& other) {
    written = std::max(written, other.written);
    read = std::max(read, other.read);
  }
};

class Mover {
 public:
  Mover(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps)
      : graph_(graph),
        segment_(segment),
        traffic_(TrafficOf(tier)),
        budget_(budget),
        prefetch_steps_(prefetch_steps),
        steps_(static_cast<int32_t>(segment.steps.size())) {}

  int64_t AdvanceAll();
  int64_t Linger();

 private:
  // The positions of compute steps.
  std::vector<int32_t> ComputeSteps() const {
    std::vector<int32_t> compute;
    for (int32_t i = 0; i < steps_; ++i) {
      if (traffic_.Computes(segment_.steps[i])) compute.push_back(i);
    }
    return compute;
  }

  void Reorder(const std::vector<std::pair<int32_t, int32_t>>& arrivals) {
    std::vector<Step> steps;
    steps.reserve(segment_.steps.size());
    auto next = arrivals.begin();
    for (int32_t i = 0; i < steps_; ++i) {
      for (; next != arrivals.end() && next->first == i; ++next)
        steps.push_back(std::move(segment_.steps[next->second]));
      if (!traffic_.Arrives(segment_.steps[i])) steps.push_back(std::move(segment_.steps[i]));
    }
    segment_.steps = std::move(steps);
  }

  // Numbers the bytes of all regions disjointly, because there are no addresses yet.
  void NumberBytes() {
    int64_t end = 0;
    first_byte_.reserve(segment_.regions.size());
    for (const Region& region : segment_.regions) {
      first_byte_.push_back(end);
      end += region.range.bytes;
    }
    watched_.assign(segment_.regions.size(), false);
    for (const Step& step : segment_.steps) {
      if (traffic_.Arrives(step)) watched_[step.src.region] = watched_[step.dst.region] = true;
    }
  }

  // Visits the uses of all bytes of the step's places that lie in regions touched by arrivals: see(const Bounds&,
  // writes) for the uses that it may conflict with, note(Bounds&, writes) for its own.
  template <typename See, typename Note>
  void ForEachUse(const Step& step, See&& see, Note&& note) {
    ForEachPlace(graph_, step, [&](const Place& place, bool writes) {
      if (!watched_[place.region]) return;
      uses_.Access(
          place, first_byte_[place.region], segment_.regions[place.region].range.bytes,
          [&](const Bounds& bounds) { see(bounds, writes); }, [&](Bounds& bounds, bool) { note(bounds, writes); });
    });
  }

  // The first position at which `step` may be issued without passing an earlier step that it conflicts with.
  int32_t Conflicts(const Step& step) {
    int32_t bound = 0;
    ForEachUse(
        step,
        [&](const Bounds& bounds, bool writes) {
          bound = std::max(bound, writes ? std::max(bounds.written, bounds.read) : bounds.written);
        },
        [](Bounds&, bool) {});
    return bound;
  }

  void Record(const Step& step, int32_t bound) {
    ForEachUse(
        step, [](const Bounds&, bool) {},
        [&](Bounds& bounds, bool writes) {
          int32_t& own = writes ? bounds.written : bounds.read;
          own = std::max(own, bound);
        });
  }

  const Graph& graph_;
  Segment& segment_;
  const Traffic traffic_;
  const int64_t budget_;
  const int prefetch_steps_;
  const int32_t steps_;
  std::vector<int64_t> first_byte_;  // by region
  std::vector<bool> watched_;        // by region: arrivals touch it
  AccessMap<Bounds> uses_;
};

// Moves every arrival before the earliest step that budget, prefetch distance, data flow and its lane allow. Positions
// are those before any step has moved: an arrival with target t is issued before step t, after earlier arrivals with
// the same target.
int64_t Mover::AdvanceAll() {
  LiveTree live(LiveBytes(segment_, traffic_.tier));
  const std::vector<int32_t> compute = ComputeSteps();
  NumberBytes();
  std::vector<std::pair<int32_t, int32_t>> arrivals;  // target, step
  std::array<int32_t, kLaneCount> lane_target = {};
  int32_t computed = 0;
  for (int32_t i = 0; i < steps_; ++i) {
    const Step& step = segment_.steps[i];
    computed += traffic_.Computes(step) ? 1 : 0;
    int32_t bound = i + 1;  // for later steps that conflict with this one
    if (traffic_.Arrives(step)) {
      const int32_t farthest = computed - prefetch_steps_ - 1;  // the last compute step that it may not pass
      int32_t target = std::max(lane_target[static_cast<int>(step.lane)], farthest < 0 ? 0 : compute[farthest] + 1);
      target = std::min(i, std::max(target, Conflicts(step)));
      const Region& dst = segment_.regions[step.dst.region];
      if (traffic_.Holds(dst) && dst.first_step == i) {
        target = live.LastAbove(target, i - 1, budget_ - dst.range.bytes) + 1;
        live.Add(target, i - 1, dst.range.bytes);
      }
      arrivals.push_back({target, i});
      lane_target[static_cast<int>(step.lane)] = bound = target;
    }
    Record(step, bound);
  }
  std::sort(arrivals.begin(), arrivals.end());
  Reorder(arrivals);
  return live.visits();
}

// Extends the life of regions that end with a departure.
int64_t Mover::Linger() {
  LiveTree live(LiveBytes(segment_, traffic_.tier));
  const std::vector<int32_t> compute = ComputeSteps();
  for (Region& region : segment_.regions) {
    if (!traffic_.Holds(region) || !traffic_.Leaves(segment_.steps[region.last_step])) continue;
    const auto next = std::upper_bound(compute.begin(), compute.end(), region.last_step) - compute.begin();
    const int64_t farthest = next + prefetch_steps_;
    const int32_t end = farthest < static_cast<int64_t>(compute.size()) ? compute[farthest] : steps_;
    const int32_t last = live.FirstAbove(region.last_step + 1, end - 1, budget_ - region.range.bytes) - 1;
    live.Add(region.last_step + 1, last, region.range.bytes);
    region.last_step = last;
  }
  return live.visits();
}

}  // namespace

int64_t StartEarly(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps) {
  UpdateLifetimes(segment);
  const int64_t visits = Mover(graph, segment, tier, budget, prefetch_steps).AdvanceAll();
  UpdateLifetimes(segment);
  return visits;
}

int64_t LeaveLate(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps) {
  return Mover(graph, segment, tier, budget, prefetch_steps).Linger();
}

}  // namespace angel_ptm
