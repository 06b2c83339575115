#ifndef ANGEL_PTM_KERNELS_OPS_SPLIT_H_
#define ANGEL_PTM_KERNELS_OPS_SPLIT_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// a[R,A] and b[R,B], either of which may be null, are the first and the other columns of x[R,A+B]. Elements.
struct SplitArgs {
  Operand a, b;
  ConstOperand x;
  int64_t rows = 0, a_width = 0, b_width = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_SPLIT_H_
