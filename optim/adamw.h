// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Of a run that AdamW trains: parameters, their gradients, the two moments; and if the parameters are of a type
// narrower than fp32, their fp32 master copy (Micikevicius et al. 2018, Mixed Precision Training, section 3.1), which
// is what is updated and saved.
std::vector<StateSpec> AdamWStates(DType compute_type = DType::kFloat32);
inline constexpr StateId kMoment1State = 2, kMoment2State = 3;

// Appends the update segment to a graph with backward ops: kAdamW for every trainable unit. Its table has AdamWStates
// first. Hyperparameters are data of the step (AdamWScalars), not of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
