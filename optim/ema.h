// An exponential moving average of the weights as a state of the run: what is evaluated, sampled from and exported
// instead of the last weights, if asked for.
#ifndef ANGEL_PTM_OPTIM_EMA_H_
#define ANGEL_PTM_OPTIM_EMA_H_

#include <cstdint>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Its name in plans and checkpoints.
inline constexpr const char* kEmaState = "ema";

// Its row in the table of a run that keeps it.
StateSpec EmaState();

// Appends the average of every trainable unit to a graph with an update segment, behind the parameters' own update.
void AppendEma(Graph& graph);

// 1 - decay of the average behind update `t` (1-based). The decay warms up as min(decay, t / (t + 9)), so that the
// average forgets where training began: after update 1 nine tenths of it are the new weights.
double EmaRate(double decay, int64_t t);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_EMA_H_
