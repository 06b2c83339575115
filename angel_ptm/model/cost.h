// What the ops of a graph cost: for the share of the matrix peak, and for predicting time.
#ifndef ANGEL_PTM_MODEL_COST_H_
#define ANGEL_PTM_MODEL_COST_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Multiply and add count as two FLOPs; matrix products and attention only, the rest is bandwidth. Grouped products and
// what goes with them are counted for the T*K rows that hold tokens, not for padding. Causal attention counts half of
// S x S. Bytes are those of operands and scratch memory that has to be read and written if caches hold a tile of a
// product, and no more.
struct OpCost {
  double flops = 0, bytes = 0;
};
OpCost CostOf(const Graph& graph, const Op& op);

// FLOPs of the micro-step's forward and backward ops, recomputation not counted (what MFU divides by the peak).
double ModelFlops(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_COST_H_
