// The first pass: generates the steps of a segment in their natural order and the lifetime of every buffer, before any
// address is known. Around the graph's ops it inserts gathers, fetches of state from other tiers, reductions and the
// update's page traffic.
#ifndef ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_
#define ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_

#include <vector>

#include "angel_ptm/model/access.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/plan/planner.h"

namespace angel_ptm {

// All segments begin with the same permanent regions, in this order: homes in the order of Layout::homes (those with
// elements; of homes that units share, only those of a sweep's own unit), then inputs, outputs and caches by tensor,
// whose addresses `fixed` gives.
Segment BuildMicroStep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed,
                       const BackendFacts& facts);
Segment BuildUpdate(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed);
// For a lock-free update, BuildUpdate only delivers gradients to mailboxes. BuildSweep builds one unit's update, which
// takes the gradients from its mailbox, reads the parameters at home and writes the new ones to a place of their own.
Segment BuildSweep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId unit);

// The steps of `first`, followed by those of `second`; later passes let them overlap.
Segment Join(Segment first, const Segment& second);

// Recomputes Region::first_step and last_step from the steps' places.
void UpdateLifetimes(Segment& segment);

// Calls visit(Place&, bool writes) for every place a step touches.
template <typename StepT, typename Visit>
void ForEachPlace(const Graph& graph, StepT& step, Visit&& visit) {
  // A reduction zeroes the padding of its source, and the transport may use the source as scratch memory.
  if (step.src.region != kNone) visit(step.src, step.kind == StepKind::kReduceScatter);
  if (step.dst.region != kNone) visit(step.dst, true);
  if (step.scratch.region != kNone) visit(step.scratch, true);
  if (step.operands.empty()) return;
  const Op& op = graph.ops[step.op];
  const size_t slots = op.inputs.size() + op.outputs.size() + op.states.size();  // the workspace follows
  for (size_t i = 0; i < step.operands.size(); ++i) {
    if (step.operands[i].region == kNone) continue;
    visit(step.operands[i], i >= slots || Writes(AccessOf(op, static_cast<int>(i))));
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SEGMENT_BUILDER_H_
