// The passes that turn a segment in natural order into a finished Segment. Each is a pure function over plain data.
// planner.cc runs them in this order: OffloadActivations (from the device, then from the host), StartEarly (farthest
// tier first), LeaveLate, PackRegions (once per tier), OrderSteps. Where nothing may start early on the device, the
// device is packed before activations leave the host.
#ifndef ANGEL_PTM_PLAN_PASSES_H_
#define ANGEL_PTM_PLAN_PASSES_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// By step: the bytes of the transient regions on `tier` that are alive.
std::vector<int64_t> LiveBytes(const Segment& segment, TierKind tier);
// The maximum of LiveBytes over all steps.
int64_t MostLiveBytes(const Segment& segment, TierKind tier);

// The smallest budget that OffloadActivations accepts for this segment.
int64_t LeastLiveBytes(const Graph& graph, const Segment& segment, TierKind tier);

// Splits the stays of activations and unit gradients until no step has more than `budget` live transient bytes on
// `tier`, which is the device or the host. Where the budget is exceeded, the buffer whose next use is farthest away
// leaves for the next tier right after its previous use and returns right before its next use (Belady 1966). On the
// host, the buffers are copies that left the device, and their uses are the moves between device and host. Returns
// kResourceExhausted if a step's own operands are too large; the message names the step by the tensor that its op
// writes, or by its unit.
absl::Status OffloadActivations(const Graph& graph, Segment& segment, TierKind tier, int64_t budget,
                                int64_t page_bytes);

// Prefetches: issues the steps by which buffers arrive on `tier` up to `prefetch_steps` compute steps earlier, so that
// compute need not wait for them, while the live bytes of the tier stay within `budget`. Arrivals on the device are
// kAllGather and kMove from the host; on the host they are kMove from the file and, for an update, from the device. For
// the host, steps of the host-compute lane count as compute steps, too. Arrivals of one lane keep their order. Returns
// the number of tree nodes visited, which grows with steps * log(steps) whatever `prefetch_steps` is.
int64_t StartEarly(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps);

// Extends the life of buffers that leave `tier` (by kMove to the next tier or, on the device, by kReduceScatter) by up
// to `prefetch_steps` compute steps, within `budget`, so that a step that needs memory need not wait for the departure.
// Runs after StartEarly for all tiers. Returns the number of tree nodes visited.
int64_t LeaveLate(const Graph& graph, Segment& segment, TierKind tier, int64_t budget, int prefetch_steps);

// Gives every transient region of `tier` a fixed address at or above `base` such that regions alive at the same time
// are disjoint. Activations that wait for the backward pass hang in a stack from the ceiling; the rest is placed from
// below, first fit in order of time. If that leaves more than 4 % of holes, or more than 1 % and exceeds `limit`,
// placement by size (Pisarchyk & Lee 2020) and in other orders is tried as well, and the best result is kept. Returns
// the ceiling. A segment that fits within one limit fits within every larger one.
int64_t PackRegions(Segment& segment, TierKind tier, int64_t base, int64_t limit);

// Sets Step::waits from overlapping memory use: a step waits for the last writers of the bytes it touches and, if it
// writes, for their readers. Waits implied by other waits are omitted.
void OrderSteps(const Graph& graph, Segment& segment);

// Places, after the layout's other homes on the host, homes for the states that only a unit under a lock-free update
// needs. With n trainable units and k = ceil(n / rounds), units whose positions differ by a multiple of k share one
// home, so that at most k units are updated at a time.
void PlaceSharedHomes(const Graph& graph, int rounds, Layout& layout);

// Plans the sweeps of a lock-free update for a plan that is otherwise finished. Their transient memory follows that of
// all other segments and is added to the plan's peaks and arenas. Pages are prefetched from the file while the host's
// arena stays within `early_host_bytes`; with 0 none are.
void AddSweeps(const Graph& graph, int64_t early_host_bytes, int prefetch_steps, Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PASSES_H_
