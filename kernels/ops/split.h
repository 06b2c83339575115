#ifndef ANGEL_PTM_KERNELS_OPS_SPLIT_H_
#define ANGEL_PTM_KERNELS_OPS_SPLIT_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// a[R,A] and b[R,B] are the first A and the last B columns of x[R,A+B]. Either may be null. All operands are elements.
struct SplitArgs {
  Operand a, b;
  ConstOperand x;
  int64_t rows = 0, a_width = 0, b_width = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_SPLIT_H_
