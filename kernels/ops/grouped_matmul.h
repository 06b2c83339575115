#ifndef ANGEL_PTM_KERNELS_OPS_GROUPED_MATMUL_H_
#define ANGEL_PTM_KERNELS_OPS_GROUPED_MATMUL_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// For each active block i: c_i[block_rows,N] = a_i[block_rows,K] op(b[block_expert[i]]). b is [E,N,K] if trans_b,
// otherwise [E,K,N]. a and b are elements, c elements or fp32.
struct GroupedMatmulArgs {
  Operand c;
  ConstOperand a, b;
  const int32_t* block_expert = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t n = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
  bool trans_b = false;
};

// dw[E,N,K] (+)= the sum over the expert's blocks, in order, of dy_i[block_rows,N]^T x_i[block_rows,K]. The dw of an
// expert without rows becomes zero, or stays as it is if accumulate. dy and x are elements, dw elements or fp32.
struct GroupedMatmulGradWeightArgs {
  Operand dw;
  ConstOperand dy, x;
  const int32_t* block_expert = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t n = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_GROUPED_MATMUL_H_
