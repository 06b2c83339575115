// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// The states that AppendAdamW adds to the table behind the parameters and their gradients.
inline constexpr StateId kMoment1State = 2, kMoment2State = 3;

// Appends the update segment to a graph with backward ops: kAdamW for every trainable unit, and the states it works on.
// Hyperparameters are data of the step (AdamWScalars), not of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
