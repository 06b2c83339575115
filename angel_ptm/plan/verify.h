// Proves that a Plan is sound, from the Plan and the Graph alone. The proof shares no code with the passes that made
// the Plan.
#ifndef ANGEL_PTM_PLAN_VERIFY_H_
#define ANGEL_PTM_PLAN_VERIFY_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Returns OK if all of the following holds for every segment, on every rank of the plan's world at once:
// * capacity: slices and homes are what units, states, world and stage demand; frozen units have parameters only. Every
//   use of a region falls within its lifetime and its tier's arena. Permanent regions lie where the layout and
//   Plan::fixed say, exactly one for each of those unless the segment has no steps. Regions alive at the same time are
//   disjoint.
// * programs: every program is a whole step, with each micro-batch and the update once. A program that begins the next
//   step can be followed by one that finds it begun.
// * residency: every operand has the size of its tensor or state and lies in memory that holds the current value when
//   the step runs: written by the ops that define it (all writers before the reader in the graph and none after it),
//   gathered from all slices, or moved in from where the newest value is. Moves follow links; ops run on the device,
//   and updates on a lane whose processor can address their operands. Data that is moved in for only some micro-batches
//   is used only as the destination of a reduction.
// * order: any two steps that touch overlapping memory on some rank, at least one of them writing, are ordered by waits
//   and lane order in the order of issue. Every update follows the norm, except in sweeps. No wait points forward.
// * completeness: every op of the graph runs exactly once. Every unit's gradient is reduced (and thereby squared)
//   exactly once per micro-step, after its last contribution. Every element that the rank updates is updated exactly
//   once per step by every update op, in the graph's order. In an update, a state is gathered only after its own slice
//   has been updated completely. Stale copies are never used.
// * gradients in the place of parameters: both have one home, which holds parameters before a micro-step and gradients
//   before an update. Each is read only while it is there.
// * homecoming: at the end of a segment every home holds its newest value and every output tensor is written. Of
//   gradients that are kept whole, only the rank's own slice has a meaning between segments.
// * collectives: a world of one has no gathers. Micro-step: if what ops read as a unit's parameters is sharded, it is
//   gathered once for every maximal run of consecutive ops of one (block, forward or not) in which some op reads it;
//   every unit with gradients is reduced once. Update: there is one norm; where ranks update everything (stage 0),
//   gradients are gathered once per unit; where they update their slice, so is every written state that they keep
//   whole. Each collective covers the unit's whole padded vector.
// * lock-free update: every unit has a sweep. Programs use only parameters and gradients, and mailboxes in deliveries.
//   The lanes of the file, and transient host memory beyond that of all programs, belong to the sweeps.
// Otherwise returns kInternal, naming the segment, step and region. The sizes of workspaces and scratch memory come
// from BackendFacts and are not checked here.
absl::Status VerifyPlan(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_VERIFY_H_
