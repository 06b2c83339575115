#ifndef ANGEL_PTM_KERNELS_OPS_DISPATCH_H_
#define ANGEL_PTM_KERNELS_OPS_DISPATCH_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// rows[R,H] = x[T,H] gathered by pair_of_row; padding rows of active blocks are zero. All operands are elements.
struct DispatchArgs {
  Operand rows;
  ConstOperand x;
  const int32_t* pair_of_row = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t t = 0, h = 0, k = 0, block_rows = 0, blocks_max = 0;
};

// dx[T,H] (+)= the sum over choices of drows[row_of_pair[t,k]], in order of k, without those whose row is -1. The dx of
// a token all of whose rows are -1 becomes zero, or stays as it is if accumulate. All operands are elements.
struct DispatchGradArgs {
  Operand dx;
  ConstOperand drows;
  const int32_t* row_of_pair = nullptr;
  int64_t t = 0, h = 0, k = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_DISPATCH_H_
