// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Appends the update segment to a graph with backward ops: kSquareSum for every unit that is trained (the global
// gradient norm), then kAdamW for each of them. Hyperparameters are data of the step (AdamWScalars), not of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
