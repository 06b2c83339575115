#ifndef ANGEL_PTM_KERNELS_OPS_ADD_H_
#define ANGEL_PTM_KERNELS_OPS_ADD_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[R,W] += x[R,W] in columns [column_begin, column_end) if accumulate; otherwise y = x there and zero in the other
// columns. Without x, which then may not accumulate, y becomes zero. Elements.
struct AddArgs {
  Operand y;
  ConstOperand x;
  int64_t rows = 0, width = 0;
  int64_t column_begin = 0, column_end = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ADD_H_
