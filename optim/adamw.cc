#include "optim/adamw.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void AppendAdamW(Graph& graph) {
  APTM_CHECK(graph.update_begin == static_cast<OpId>(graph.ops.size()), "the update segment exists already");
  APTM_CHECK(graph.states.size() == 1, "the states exist already");
  // Every micro-batch's reduction reads and writes the gradients. Each is reduced to the slices of its owners, so only
  // ranks that update everything (stage 0) need a whole vector.
  graph.states.push_back({.name = "gradients", .saved = false, .touches_per_step = 4});
  graph.states.push_back({.name = "moment1"});
  graph.states.push_back({.name = "moment2"});
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units.size()); ++u) {
    if (!graph.units[u].trainable) continue;
    for (int32_t p : graph.units[u].parameters) {
      const Parameter& parameter = graph.parameters[p];
      APTM_CHECK(parameter.gradient != kNone, graph.tensors[parameter.tensor].name, " has no gradient");
    }
    graph.ops.push_back({.kind = OpKind::kAdamW,
                         .phase = Phase::kUpdate,
                         .unit = u,
                         .states = {kParameterState, kMoment1State, kMoment2State, kGradientState}});
  }
}

}  // namespace angel_ptm
