#ifndef ANGEL_PTM_KERNELS_OPS_EMA_H_
#define ANGEL_PTM_KERNELS_OPS_EMA_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Per-step numbers of the average, filled by the trainer before the update segment runs.
struct EmaScalars {
  float rate = 0;  // 1 - decay of this step
};

// An exponential moving average of parameters (Polyak & Juditsky 1992), as one sequence of IEEE operations on every
// ISA:
//   ema += rate * (p - ema).
// If the parameters have a master, the master is averaged.
struct EmaArgs {
  Operand ema;         // [n] fp32
  ConstOperand param;  // [n] fp32
  int64_t n = 0;
  const EmaScalars* scalars = nullptr;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_EMA_H_
