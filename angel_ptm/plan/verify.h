// Proof that a Plan is sound, made from the Plan and the Graph alone: it shares no code with the passes that made the
// Plan.
#ifndef ANGEL_PTM_PLAN_VERIFY_H_
#define ANGEL_PTM_PLAN_VERIFY_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// OK if, for every segment, on every rank of the plan's world at once:
// * capacity: slices and homes are what units, states, world and stage demand, frozen units have parameters only; every
//   use of a region falls into its lifetime and its tier's arena, permanent ones lie where the layout and Plan::fixed
//   say, one for each of these unless the segment has no steps; regions alive at the same time are disjoint;
// * programs: every one is a whole step, each micro-batch and the update once; one that begins the next step can be
//   followed by one that finds it begun;
// * residency: every operand has its tensor's or state's size and lies on memory that holds its current value when the
//   step runs: written by the ops that define it (all writers before the reader in the graph and none behind it),
//   gathered from all slices, or moved in from where the newest value is; moves follow links, ops run on the device and
//   updates on a lane whose processor addresses their operands; what only some micro-batches bring is only reduced
//   into;
// * order: any two steps that touch overlapping memory on some rank, one of them writing, are ordered by waits and lane
//   order in the order of issue; every update follows the norm; no wait points forward;
// * completeness: every op of the graph runs exactly once; every unit's gradient is reduced (and thereby squared)
//   exactly once per micro-step, behind its last contribution; every element that the rank updates is updated exactly
//   once per step by every update op, in the graph's order; a state is gathered in an update only when its own slice is
//   updated completely; stale copies are never used;
// * places of parameters that gradients take: they are one home with theirs, which holds parameters before a
// micro-step,
//   gradients before an update; each is read only while it is there;
// * homecoming: at the end of a segment every home holds its newest value (of gradients: the rank's own slice; the
//   rest of an unsharded gradient home means nothing between segments), and every output tensor is written;
// * collectives, none of gathers in a world of one. Micro-step: what ops read as a unit's parameters is gathered, if it
//   is sharded, once for every maximal run of neighbouring ops of one (block, forward or not) in which some op reads
//   it; every unit with gradients is reduced once. Update: one norm; where ranks update everything (stage 0) gradients
//   are gathered once per unit, where they update their slice every written state that they keep whole is. Each names
//   the unit's whole padded vector.
// kInternal naming the segment, step and region otherwise. Sizes of workspaces and scratch memory come from
// BackendFacts and are not checked here.
absl::Status VerifyPlan(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_VERIFY_H_
