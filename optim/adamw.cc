#include "optim/adamw.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void AppendAdamW(Graph& graph) {
  APTM_CHECK(graph.update_begin == static_cast<OpId>(graph.ops.size()), "the update segment exists already");
  for (const Parameter& p : graph.parameters) APTM_CHECK(p.gradient != kNone, "no backward ops");
  for (OpKind kind : {OpKind::kSquareSum, OpKind::kAdamW}) {
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units.size()); ++u) {
      graph.ops.push_back({.kind = kind, .phase = Phase::kUpdate, .unit = u});
    }
  }
}

}  // namespace angel_ptm
