// Proof that a Plan is sound, made from the Plan and the Graph alone: it shares no code with the passes that made the
// Plan.
#ifndef ANGEL_PTM_PLAN_VERIFY_H_
#define ANGEL_PTM_PLAN_VERIFY_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// OK if, for both segments:
// * capacity: slices and homes are what units, world and stage demand; every region lies inside its tier's arena,
//   permanent ones where the layout and Plan::fixed say, one for each of these unless the segment has no steps; every
//   use of a region falls into its lifetime; regions alive at the same time are disjoint;
// * residency: every operand has its tensor's size and lies on memory that holds that tensor's current value when the
//   step runs: written by the ops that define it (all writers before the reader in the graph and none behind it),
//   gathered from all slices, or moved in from where the newest value is;
// * order: any two steps that touch overlapping memory, one of them writing, are ordered by waits and lane order in
//   the order of issue; the norm follows every square sum, every update follows the norm; no wait points forward;
// * completeness: every op of the graph runs exactly once; every unit's gradient is reduced exactly once per
//   micro-step, behind its last contribution; the own slice of every unit's gradient is squared exactly once and every
//   element whose moments the rank stores is updated exactly once per step; parameters are gathered only when their
//   own slice is updated completely; stale copies are never used;
// * homecoming: at the end of a segment every home holds its newest value (of gradients: the rank's own slice; the
//   rest of an unsharded gradient home means nothing between segments), and every output tensor is written;
// * collectives. Micro-step: at stage 3 a unit is gathered once for every maximal run of neighbouring ops of one
//   (block, forward or not) in which some op reads its parameters, below stage 3 never; every unit with gradients is
//   reduced once. Update: one norm; gradients are gathered once per unit at stages 0 and 1, parameters once per unit at
//   stages 1 and 2. Each names the unit's whole padded vector: world * slice bytes.
// kInternal naming the segment, step and region otherwise. Sizes of workspaces and scratch memory come from
// BackendFacts and are not checked here.
absl::Status VerifyPlan(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_VERIFY_H_
