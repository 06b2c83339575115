// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// The states of a run trained with AdamW: parameters, their gradients, the two moments and, if compute_type is narrower
// than fp32, an fp32 master copy of the parameters (Micikevicius et al. 2018, Mixed Precision Training, section 3.1),
// which is what is updated and saved. Gradients are fp32 or, in a run with one micro-batch per step and parameters
// narrower than fp32, of the parameters' type. In the latter case they rest in the parameters' place, which is free
// from the last op that reads the parameters until the update, because the update remakes the parameters from the
// master copy (as in PatrickStar, Fang et al. 2021).
std::vector<StateSpec> AdamWStates(DType compute_type = DType::kFloat32, DType gradient_type = DType::kFloat32);
inline constexpr StateId kMoment1State = 2, kMoment2State = 3;

// Appends the update segment, one kAdamW per trainable unit, to a graph with backward ops. The states of its table must
// begin with AdamWStates. Hyperparameters are data of the step (AdamWScalars), not part of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
