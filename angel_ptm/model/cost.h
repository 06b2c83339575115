// What an op costs: floating-point operations and bytes touched, for MFU, the plan's tables and the cost model.
#ifndef ANGEL_PTM_MODEL_COST_H_
#define ANGEL_PTM_MODEL_COST_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct OpCost {
  double flops = 0;  // multiply and add count as two; matrix products and attention only, the rest is bandwidth
  double bytes = 0;  // operands read once and written once
};

// Grouped products are counted for the T*K rows that hold tokens, not for padding. Causal attention counts half of S x
// S.
OpCost CostOf(const Graph& graph, const Op& op);

// FLOPs of the micro-step's forward and backward ops, recomputation not counted (what MFU divides by the peak).
double ModelFlops(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_COST_H_
