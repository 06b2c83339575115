// Random initial parameters, the same on every rank count, ZeRO stage and layout.
#ifndef ANGEL_PTM_TRAIN_INITIALISE_H_
#define ANGEL_PTM_TRAIN_INITIALISE_H_

#include <cstdint>
#include <span>

#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Parameters: N(0, init_stddev) or ones, each element a function of (seed, its parameter's name, its index); padding,
// gradients and moments: zero.
void InitialiseState(const Graph& graph, uint64_t seed, std::span<const StateView> views);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_INITIALISE_H_
