#ifndef ANGEL_PTM_KERNELS_OPS_NORM_ROPE_H_
#define ANGEL_PTM_KERNELS_OPS_NORM_ROPE_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Some heads of a wider matrix, normed and turned: y[T,N,D] = R norm(x), where token t's heads are at x + t * x_stride.
// norm(x) = x / rms(x) * weight (Zhang & Sennrich 2019), or with layer_norm (x - mean(x)) / deviation(x) * weight +
// bias (Ba et al. 2016), over a head's D elements. R is RoPE (Su et al. 2021) by cos_sin[P,D/2,2] fp32, of which token
// t takes row t % P: it turns elements i and i + D/2, or with `interleaved` 2i and 2i + 1. Without cos_sin nothing is
// turned. x, y, weight[D] and bias[D] (null: zeros) are elements.
struct NormRopeArgs {
  Operand y;
  ConstOperand x, weight, bias, cos_sin;
  int64_t t = 0, heads = 0, d = 0, x_stride = 0, p = 0;
  bool layer_norm = false, interleaved = false;
  float epsilon = 1e-6f;
};

// dx is strided like x; what is between its heads stays. dweight[D] and dbias[D] (+)=, fp32 or elements. Each may be
// null. What the forward op made of x is made again.
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
