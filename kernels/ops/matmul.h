#ifndef ANGEL_PTM_KERNELS_OPS_MATMUL_H_
#define ANGEL_PTM_KERNELS_OPS_MATMUL_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// c[M,N] (+)= op(a) op(b). a is [M,K] ([K,M] if trans_a), b is [K,N] ([N,K] if trans_b). a and b are elements, c
// elements or fp32.
struct MatmulArgs {
  Operand c;
  ConstOperand a, b;
  int64_t m = 0, n = 0, k = 0;
  bool trans_a = false, trans_b = false, accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_MATMUL_H_
