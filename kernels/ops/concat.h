#ifndef ANGEL_PTM_KERNELS_OPS_CONCAT_H_
#define ANGEL_PTM_KERNELS_OPS_CONCAT_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[R,A+B] = a[R,A] beside b[R,B]. All operands are elements. With R samples and a sample's rows flattened into one
// row, this also puts a sample's rows of a before its rows of b.
struct ConcatArgs {
  Operand y;
  ConstOperand a, b;
  int64_t rows = 0, a_width = 0, b_width = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_CONCAT_H_
