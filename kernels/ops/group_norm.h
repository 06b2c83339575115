#ifndef ANGEL_PTM_KERNELS_OPS_GROUP_NORM_H_
#define ANGEL_PTM_KERNELS_OPS_GROUP_NORM_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,C] = a, or a sigmoid(a) with silu, where a = n weight + bias and n = (x - mean) / sqrt(variance + epsilon). mean
// and variance are taken over the C / groups adjacent columns of a group in all S rows of a sample (Wu & He 2018); T is
// B samples of S rows. weight and bias are [C]. statistics[B*groups,2] is fp32 and gets mean and
// 1 / sqrt(variance + epsilon). All other operands are elements.
struct GroupNormArgs {
  Operand y, statistics;
  ConstOperand x, weight, bias;
  int64_t b = 0, s = 0, c = 0, groups = 0;
  bool silu = false;
  float epsilon = 1e-6f;
};

// dx[T,C] is overwritten; dweight[C] and dbias[C] (+)=, fp32 or elements. Each output may be null.
struct GroupNormGradArgs {
  Operand dx, dweight, dbias;
  ConstOperand dy, x, statistics, weight, bias;
  int64_t b = 0, s = 0, c = 0, groups = 0;
  bool silu = false;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GROUP_NORM_H_
