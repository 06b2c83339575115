// The floating-point operations of a graph, for the share of the matrix peak.
#ifndef ANGEL_PTM_MODEL_COST_H_
#define ANGEL_PTM_MODEL_COST_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// FLOPs of the micro-step's forward and backward ops, recomputation not counted (what MFU divides by the peak).
// Multiply and add count as two; matrix products and attention only, the rest is bandwidth. Grouped products are
// counted for the T*K rows that hold tokens, not for padding. Causal attention counts half of S x S.
double ModelFlops(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_COST_H_
