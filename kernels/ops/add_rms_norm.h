#ifndef ANGEL_PTM_KERNELS_OPS_ADD_RMS_NORM_H_
#define ANGEL_PTM_KERNELS_OPS_ADD_RMS_NORM_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// sum = x + delta (without delta, sum is null and x itself is normed), y = sum / rms(sum) * weight,
// rstd[T] = 1 / sqrt(mean(sum^2) + epsilon). (Zhang & Sennrich 2019; like HunYuan, with fp32 statistics.) All operands
// but rstd are elements. The norm is taken of the rounded sum.
struct AddRmsNormArgs {
  Operand sum, y, rstd;           // [T,H], [T,H], [T] fp32
  ConstOperand x, delta, weight;  // [T,H], [T,H] or null, [H]
  int64_t t = 0, h = 0;
  float epsilon = 1e-5f;
};

// Either output may be null. dx[T,H] = dsum (if given) + gradient through the norm; dweight[H] (+)=. `sum` is the
// normed input of the forward op. All operands but rstd are elements.
struct AddRmsNormGradArgs {
  Operand dx, dweight;
  ConstOperand dy, dsum, sum, rstd, weight;  // dsum may be null
  int64_t t = 0, h = 0;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ADD_RMS_NORM_H_
