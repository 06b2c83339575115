// AdamW as ops of the graph: the update segment.
#ifndef ANGEL_PTM_OPTIM_ADAMW_H_
#define ANGEL_PTM_OPTIM_ADAMW_H_

#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Of a run that AdamW trains: parameters, their gradients, the two moments; and if the parameters are of a type
// narrower than fp32, their fp32 master copy (Micikevicius et al. 2018, Mixed Precision Training, section 3.1), which
// is what is updated and saved. Gradients are fp32 or, in a run of one micro-batch a step whose parameters are of that
// type, of the parameters' type: then they rest in the parameters' place, which is free from the last op that reads
// them to the update, since the master copy remakes them (as in PatrickStar, Fang et al. 2021).
std::vector<StateSpec> AdamWStates(DType compute_type = DType::kFloat32, DType gradient_type = DType::kFloat32);
inline constexpr StateId kMoment1State = 2, kMoment2State = 3;

// Appends the update segment to a graph with backward ops: kAdamW for every trainable unit. Its table has AdamWStates
// first. Hyperparameters are data of the step (AdamWScalars), not of the graph.
void AppendAdamW(Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_ADAMW_H_
