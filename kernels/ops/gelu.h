#ifndef ANGEL_PTM_KERNELS_OPS_GELU_H_
#define ANGEL_PTM_KERNELS_OPS_GELU_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[n] = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GELU by its tanh approximation (Hendrycks & Gimpel 2016; the
// diffusers' approximate="tanh", transformers' "gelu_new"), or with `erf` as it is defined, x/2 (1 + erf(x / sqrt(2)))
// (transformers' "gelu"). Finite for every finite x. Elements.
struct GeluArgs {
  Operand y;
  ConstOperand x;
  int64_t n = 0;
  bool erf = false;
};

// dx[n] = dy times that function's derivative at x. Elements.
struct GeluGradArgs {
  Operand dx;
  ConstOperand dy, x;
  int64_t n = 0;
  bool erf = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GELU_H_
