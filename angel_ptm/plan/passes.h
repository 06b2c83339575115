// The passes between a segment's natural order and a finished Segment. Each is a pure function over plain data;
// planner.cc runs them in this order: OffloadActivations (from the device, then from the host), StartEarly (farthest
// tier first), LeaveLate, PackRegions (once per tier), OrderSteps.
#ifndef ANGEL_PTM_PLAN_PASSES_H_
#define ANGEL_PTM_PLAN_PASSES_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Bytes of transient regions of `tier` alive at each step.
std::vector<int64_t> LiveBytes(const Segment& segment, TierKind tier);
// The most of them at any step.
int64_t MostLiveBytes(const Segment& segment, TierKind tier);

// The least budget OffloadActivations accepts for this segment.
int64_t LeastLiveBytes(const Graph& graph, const Segment& segment, TierKind tier);

// Splits stays of activations and unit gradients until no step has more than `budget` live transient bytes on `tier`,
// the device or the host: where the budget is exceeded, the buffer whose next use is farthest away leaves for the next
// tier right after its last use and returns right before its next (Belady 1966). On the host those are the copies that
// left the device, and their uses the copying. kResourceExhausted if a step's own operands are too large; the message
// names it by the tensor the op writes, or by its unit.
absl::Status OffloadActivations(const Graph& graph, Segment& segment, TierKind tier, int64_t budget,
                                int64_t page_bytes);

// Moves what arrives on `tier` (on the device by kMove from the host and kAllGather, on the host by kMove from the file
// and, for an update, from the device) up to `prefetch_steps` compute steps ahead of its use, so that compute need not
// wait for it, while live bytes of the tier stay within `budget`. Where the host computes, its steps count, too.
// Arrivals of one lane keep their order. Returns how much it looked at (nodes of its trees), which grows with steps *
// log(steps) whatever `prefetch_steps` is.
int64_t StartEarly(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps);

// Lets buffers that leave `tier` (by kMove to the next one, by kReduceScatter) live on for as long, within the same
// budget, so that nobody who needs memory need wait for that. Behind StartEarly for all tiers.
int64_t LeaveLate(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps);

// Gives every transient region of `tier` a fixed address at or above `base` such that regions alive at the same time
// are disjoint: the activations that wait for the backward pass hang in a stack from the ceiling, the rest is placed
// from below, first fit in order of time; where that leaves more than 4 % of holes, or 1 % if it exceeds `limit`, by
// size (Pisarchyk & Lee 2020) and in other orders, and the best is kept. Returns the ceiling; what fits one limit fits
// every larger one.
int64_t PackRegions(Segment& segment, TierKind tier, int64_t base, int64_t limit);

// Sets Step::waits from overlapping memory use: a step waits for the last writers of what it touches, and if it writes,
// for its readers. Waits implied by others are left out.
void OrderSteps(const Graph& graph, Segment& segment);

// Homes on the host for what only a unit that is being updated lock-free has, behind the layout's other homes. Units
// that are so many places apart have one home, so that a `rounds`-th of them is updated at a time.
void PlaceSharedHomes(const Graph& graph, int rounds, Layout& layout);

// Plans the sweeps of a lock-free update beside a plan that is finished but for them, in transient memory behind that
// of all other segments, and adds it to the plan's peaks and arenas. Pages come early from files up to
// `early_host_bytes` of the host's arena; with 0 none does.
void AddSweeps(const Graph& graph, int64_t early_host_bytes, int prefetch_steps, Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PASSES_H_
