#ifndef ANGEL_PTM_KERNELS_OPS_GELU_H_
#define ANGEL_PTM_KERNELS_OPS_GELU_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[n] = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh approximation of GELU (Hendrycks & Gimpel 2016;
// diffusers' approximate="tanh", transformers' "gelu_new"), or, with `erf`, GELU as defined, x/2 (1 + erf(x / sqrt(2)))
// (transformers' "gelu"). Finite for every finite x. All operands are elements.
struct GeluArgs {
  Operand y;
  ConstOperand x;
  int64_t n = 0;
  bool erf = false;
};

// dx[n] = dy times the derivative of GeluArgs' function at x. All operands are elements.
struct GeluGradArgs {
  Operand dx;
  ConstOperand dy, x;
  int64_t n = 0;
  bool erf = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GELU_H_
