#ifndef ANGEL_PTM_KERNELS_OPS_ADD_H_
#define ANGEL_PTM_KERNELS_OPS_ADD_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// If accumulate: y[R,W] += x[R,W] in columns [column_begin, column_end), and the other columns stay. Otherwise y = x in
// these columns and zero in the others. x may be null if not accumulate: then y becomes zero. All operands are
// elements.
struct AddArgs {
  Operand y;
  ConstOperand x;
  int64_t rows = 0, width = 0;
  int64_t column_begin = 0, column_end = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ADD_H_
