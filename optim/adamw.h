// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Of a run that AdamW trains: parameters, their gradients, the two moments.
std::vector<StateSpec> AdamWStates();
inline constexpr StateId kMoment1State = 2, kMoment2State = 3;

// Appends the update segment to a graph with backward ops: kAdamW for every trainable unit. Its table has AdamWStates
// first. Hyperparameters are data of the step (AdamWScalars), not of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
