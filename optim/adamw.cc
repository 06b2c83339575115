#include "optim/adamw.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void AppendAdamW(Graph& graph) {
  APTM_CHECK(graph.update_begin == static_cast<OpId>(graph.ops.size()), "the update segment exists already");
  for (const Parameter& p : graph.parameters) {
    const Tensor& tensor = graph.tensors[p.tensor];
    APTM_CHECK(p.gradient != kNone || !graph.units[tensor.unit].trainable, tensor.name, " has no gradient");
  }
  for (OpKind kind : {OpKind::kSquareSum, OpKind::kAdamW}) {
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units.size()); ++u) {
      if (!graph.units[u].trainable) continue;
      graph.ops.push_back({.kind = kind, .phase = Phase::kUpdate, .unit = u});
    }
  }
}

}  // namespace angel_ptm
