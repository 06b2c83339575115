// An exponential moving average of the weights, kept as a state of the run. On request it is evaluated, sampled from
// and exported instead of the latest weights.
#ifndef ANGEL_PTM_OPTIM_EMA_H_
#define ANGEL_PTM_OPTIM_EMA_H_

#include <cstdint>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// The state's name in plans and checkpoints.
inline constexpr const char* kEmaState = "ema";

// The state's row in the table of a run that keeps the average.
StateSpec EmaState();

// Appends one kEma per trainable unit to a graph with an update segment, after the update of the parameters.
void AppendEma(Graph& graph);

// Returns 1 - decay for the average after update `t` (1-based). The decay warms up as min(decay, t / (t + 9)), so that
// the average forgets the initial weights: after update 1 it consists of nine tenths new weights.
double EmaRate(double decay, int64_t t);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_EMA_H_
