// Proof that a Plan is sound, made from the Plan and the Graph alone: it shares no code with the passes that made the
// Plan.
#ifndef ANGEL_PTM_PLAN_VERIFY_H_
#define ANGEL_PTM_PLAN_VERIFY_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// OK if, for both segments:
// * capacity: every region lies inside its tier's arena, homes where the layout says, regions alive at the same time
// are disjoint;
// * residency: every operand has its tensor's size and lies in a region that holds that tensor's current value when the
// step
//   runs: written by the op that defines it, gathered from all slices, or moved in from where the newest value is;
// * order: any two steps that touch overlapping memory, one of them writing, are ordered by waits and lane order;
// * completeness: every op of the graph runs exactly once, in an order that respects data flow; every unit's gradient
// is reduced exactly once
//   per micro-step and updated exactly once per step over exactly the rank's range; stale copies are never used;
// * homecoming: at the end of a segment every home holds its newest value;
// * collectives: count and bytes match the ZeRO stage's formula.
// kInternal naming the segment, step and region otherwise.
absl::Status VerifyPlan(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_VERIFY_H_
