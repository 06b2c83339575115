// First pass: the steps of a segment in their natural order, with the lifetime of every buffer, before any address is
// known. Inserts gathers, fetches of state that rests elsewhere, reductions and the update's page traffic around the
// graph's ops.
#ifndef ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_
#define ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_

#include <vector>

#include "angel_ptm/model/access.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/plan/planner.h"

namespace angel_ptm {

// All segments begin with the same permanent regions, in this order: homes by Layout::homes (those with elements;
// of those that units share only a sweep's own),
// then inputs, outputs and caches by tensor. `fixed` says where the latter lie.
Segment BuildMicroStep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed,
                       const BackendFacts& facts);
Segment BuildUpdate(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed);
// Of a lock-free update, whose BuildUpdate delivers gradients only: the unit's update, with the gradients of its
// mailbox; parameters are read at home and written beside it.
Segment BuildSweep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId unit);

// The steps of `first`, then those of `second`; the passes behind this one let them overlap.
Segment Join(Segment first, const Segment& second);

// Recomputes Region::first_step and last_step from the steps' places.
void UpdateLifetimes(Segment& segment);

// Calls visit(Place&, bool writes) for every place a step touches.
template <typename StepT, typename Visit>
void ForEachPlace(const Graph& graph, StepT& step, Visit&& visit) {
  // A reduce zeroes the padding of its source, and the transport may work in it.
  if (step.src.region != kNone) visit(step.src, step.kind == StepKind::kReduceScatter);
  if (step.dst.region != kNone) visit(step.dst, true);
  if (step.scratch.region != kNone) visit(step.scratch, true);
  if (step.operands.empty()) return;
  const Op& op = graph.ops[step.op];
  const size_t slots = op.inputs.size() + op.outputs.size() + op.states.size();  // behind them the workspace
  for (size_t i = 0; i < step.operands.size(); ++i) {
    if (step.operands[i].region == kNone) continue;
    visit(step.operands[i], i >= slots || Writes(AccessOf(op, static_cast<int>(i))));
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_
