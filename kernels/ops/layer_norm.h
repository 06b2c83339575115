#ifndef ANGEL_PTM_KERNELS_OPS_LAYER_NORM_H_
#define ANGEL_PTM_KERNELS_OPS_LAYER_NORM_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = a (1 + scale) + shift with a = n weight + bias and, per row, n = (x - mean(x)) / sqrt(variance(x) + epsilon)
// (Ba et al. 2016). T is B samples of S rows. weight and bias are [H], both given or both null. shift and scale are per
// sample: columns [shift_at, shift_at + H) and [scale_at, scale_at + H) of modulation[B,W] (Peebles & Xie 2023, DiT:
// adaLN). A negative shift_at or scale_at means zeros; without modulation both are zeros. statistics[T,2] is fp32 and
// gets mean and 1 / sqrt(variance + epsilon). All other operands are elements; statistics are computed in fp32.
struct LayerNormArgs {
  Operand y, statistics;
  ConstOperand x, weight, bias, modulation;
  int64_t b = 0, s = 0, h = 0, modulation_width = 0;
  int64_t shift_at = -1, scale_at = -1;
  float epsilon = 1e-6f;
};

// Any output may be null. dx[T,H] = dsum (if given) + gradient through the norm; dweight[H] and dbias[H] (+)=, fp32 or
// elements. The shift and scale columns of dmodulation[B,W] are overwritten, all other columns stay.
struct LayerNormGradArgs {
  Operand dx, dweight, dbias, dmodulation;
  ConstOperand dy, dsum, x, statistics, weight, bias, modulation;  // dsum may be null
  int64_t b = 0, s = 0, h = 0, modulation_width = 0;
  int64_t shift_at = -1, scale_at = -1;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_LAYER_NORM_H_
