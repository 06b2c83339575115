#include "optim/ema.h"

#include <algorithm>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

StateSpec EmaState() { return {.name = kEmaState, .start = StateSpec::Start::kParameters}; }

void AppendEma(Graph& graph) {
  APTM_CHECK(graph.update_begin < static_cast<OpId>(graph.ops.size()), "there is no update segment");
  APTM_CHECK(graph.ops.back().kind != OpKind::kEma, "the average exists already");
  const StateId ema = FindState(graph.states(), kEmaState);
  APTM_CHECK(ema >= 0, "the run's table has no average");
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    if (!graph.units()[u].trainable) continue;
    const StateId weights = PreciseState(graph.states());
    graph.ops.push_back({.kind = OpKind::kEma, .phase = Phase::kUpdate, .unit = u, .states = {ema, weights}});
  }
}

double EmaRate(double decay, int64_t t) {
  const double updates = static_cast<double>(t);
  return 1 - std::min(decay, updates / (updates + 9));
}

}  // namespace angel_ptm
