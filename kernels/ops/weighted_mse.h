#ifndef ANGEL_PTM_KERNELS_OPS_WEIGHTED_MSE_H_
#define ANGEL_PTM_KERNELS_OPS_WEIGHTED_MSE_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// sample_loss[B] = weight[b] * mean of (x - target)^2 over sample b of x[B,N], and dx[B,N] (unless null), the gradient
// of the SUM of sample losses. x and dx are elements; target[B,N], weight[B] and sample_loss are fp32.
struct WeightedMseArgs {
  Operand sample_loss, dx;
  ConstOperand x, target, weight;
  int64_t b = 0, n = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_WEIGHTED_MSE_H_
