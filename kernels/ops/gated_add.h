#ifndef ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_
#define ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = x + gate * delta, where T is B samples of S rows and a sample's gate is columns [gate_at, gate_at + H) of
// modulation[B,W] (Peebles & Xie 2023, DiT). If x is null, y = gate * delta. All operands are elements.
struct GatedAddArgs {
  Operand y;
  ConstOperand x, delta, modulation;
  int64_t b = 0, s = 0, h = 0, modulation_width = 0, gate_at = 0;
};

// ddelta[T,H] = gate * dy. The gate's columns of dmodulation[B,W] become the sum of dy * delta over the sample's rows;
// all other columns stay. Either output may be null. The gradient of x is dy. All operands are elements.
struct GatedAddGradArgs {
  Operand ddelta, dmodulation;
  ConstOperand dy, delta, modulation;
  int64_t b = 0, s = 0, h = 0, modulation_width = 0, gate_at = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_
