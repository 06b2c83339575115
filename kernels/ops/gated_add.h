#ifndef ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_
#define ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = x + gate * delta, where T is B samples of S rows and a sample's gate is columns [gate_at, gate_at + H) of
// modulation[B,W] (Peebles & Xie 2023, DiT). x may be null: then y is the product alone. Elements.
struct GatedAddArgs {
  Operand y;
  ConstOperand x, delta, modulation;
  int64_t b = 0, s = 0, h = 0, modulation_width = 0, gate_at = 0;
};

// ddelta[T,H] = gate * dy; the gate's columns of dmodulation[B,W] get the sum of dy * delta over a sample's rows, all
// others stay. Either may be null. The gradient of x is dy. Elements.
struct GatedAddGradArgs {
  Operand ddelta, dmodulation;
  ConstOperand dy, delta, modulation;
  int64_t b = 0, s = 0, h = 0, modulation_width = 0, gate_at = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GATED_ADD_H_
