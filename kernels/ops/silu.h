#ifndef ANGEL_PTM_KERNELS_OPS_SILU_H_
#define ANGEL_PTM_KERNELS_OPS_SILU_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[n] = x * sigmoid(x) (Elfwing et al. 2018; "swish"). All operands are elements.
struct SiluArgs {
  Operand y;
  ConstOperand x;
  int64_t n = 0;
};

// dx[n] = dy times the derivative of SiluArgs' function at x. All operands are elements.
struct SiluGradArgs {
  Operand dx;
  ConstOperand dy, x;
  int64_t n = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_SILU_H_
