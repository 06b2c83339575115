// The cost of a graph's ops, used for MFU and for predicting time.
#ifndef ANGEL_PTM_MODEL_COST_H_
#define ANGEL_PTM_MODEL_COST_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// FLOPs count a multiply and an add as two, and cover only matrix products, convolutions and attention; everything else
// is bound by bandwidth. Grouped products and the ops around them are counted for the T*K rows that hold tokens, not
// for padding. Causal attention counts half of S x S. Bytes are the operands and scratch memory that must be read and
// written if caches hold a tile of a product and no more.
struct OpCost {
  double flops = 0, bytes = 0;
};
OpCost CostOf(const Graph& graph, const Op& op);

// FLOPs of the micro-step's forward and backward ops without recomputation, the numerator of MFU.
double ModelFlops(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_COST_H_
