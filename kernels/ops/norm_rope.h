#ifndef ANGEL_PTM_KERNELS_OPS_NORM_ROPE_H_
#define ANGEL_PTM_KERNELS_OPS_NORM_ROPE_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Norms and rotates some heads of a wider matrix: y[T,N,D] = R norm(x), where token t's heads are at x + t * x_stride.
// norm(x) = x / rms(x) * weight (Zhang & Sennrich 2019), or with layer_norm (x - mean(x)) / deviation(x) * weight +
// bias (Ba et al. 2016), over a head's D elements. R is RoPE (Su et al. 2021) by cos_sin[P,D/2,2] fp32, of which token
// t takes row t % P. It rotates the pair of elements i and i + D/2, or with `interleaved` 2i and 2i + 1. Without
// cos_sin nothing is rotated. x, y, weight[D] and bias[D] (null: zeros) are elements.
struct NormRopeArgs {
  Operand y;
  ConstOperand x, weight, bias, cos_sin;
  int64_t t = 0, heads = 0, d = 0, x_stride = 0, p = 0;
  bool layer_norm = false, interleaved = false;
  float epsilon = 1e-6f;
};

// dx is strided like x; elements between its heads stay. dweight[D] and dbias[D] (+)=, fp32 or elements. Each output
// may be null. The intermediate results of the forward op are recomputed from x.
struct NormRopeGradArgs {
  Operand dx, dweight, dbias;
  ConstOperand dy, x, weight, cos_sin;
  int64_t t = 0, heads = 0, d = 0, x_stride = 0, p = 0;
  bool layer_norm = false, interleaved = false;
  float epsilon = 1e-6f;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_NORM_ROPE_H_
