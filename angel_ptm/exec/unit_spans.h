// Stretches of units' flat vectors that are treated differently from the rest.
#ifndef ANGEL_PTM_EXEC_UNIT_SPANS_H_
#define ANGEL_PTM_EXEC_UNIT_SPANS_H_

#include <vector>

#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/plan.h"
#include "kernels/ops/adamw.h"

namespace angel_ptm {

// The elements that have no weight decay.
std::vector<ElementSpan> WithoutDecay(const Graph& graph, UnitId unit);
// The padding of the whole vector, between and after parameters, which is always zero. Experts have none.
std::vector<ElementSpan> GapsOf(const Graph& graph, const Layout& layout, UnitId unit);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_UNIT_SPANS_H_
