#ifndef ANGEL_PTM_KERNELS_OPS_COMBINE_H_
#define ANGEL_PTM_KERNELS_OPS_COMBINE_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = base[T,H] + sum_k weights[t,k] * rows[row_of_pair[t,k]], added in order of k; pairs whose row is -1 add
// nothing. Without base the sum starts from zero. All operands but the weights are elements.
struct CombineArgs {
  Operand y;
  ConstOperand base, rows, weights;  // base: optional
  const int32_t* row_of_pair = nullptr;
  int64_t t = 0, h = 0, k = 0;
};

// drows[R,H]: weights * dy for real rows, zero for padding rows of active blocks. dweights[T,K] = dot(dy[t],
// rows[row]), zero for pairs without a row. (The gradient of base is dy itself.) drows, dy and rows are elements.
struct CombineGradArgs {
  Operand drows, dweights;
  ConstOperand dy, rows, weights;
  const int32_t* pair_of_row = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t t = 0, h = 0, k = 0, block_rows = 0, blocks_max = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_COMBINE_H_
