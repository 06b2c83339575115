#ifndef ANGEL_PTM_KERNELS_OPS_MEAN_POOL_H_
#define ANGEL_PTM_KERNELS_OPS_MEAN_POOL_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[B,H] = mean of the first counts[b] rows, at least one, of sample b of x[B,S,H]; without counts, of all rows. x and
// y are elements.
struct MeanPoolArgs {
  Operand y;
  ConstOperand x;
  const int32_t* counts = nullptr;
  int64_t b = 0, s = 0, h = 0;
};

// dx[B,S,H] = dy / counts[b] in those rows, 0 in the others. dx and dy are elements.
struct MeanPoolGradArgs {
  Operand dx;
  ConstOperand dy;
  const int32_t* counts = nullptr;
  int64_t b = 0, s = 0, h = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_MEAN_POOL_H_
