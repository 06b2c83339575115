#ifndef ANGEL_PTM_KERNELS_OPS_ADD_ROWS_H_
#define ANGEL_PTM_KERNELS_OPS_ADD_ROWS_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = x[T,H] + rows[P,H], with rows repeated T / P times: a bias (P = 1), positions (P = S), a sum (P = T). All
// operands are elements.
struct AddRowsArgs {
  Operand y;
  ConstOperand x, rows;
  int64_t t = 0, h = 0, p = 0;
};

// drows[P,H] (+)= the sum of dy[T,H] over the T / P tokens that each row was added to. dy is elements, drows elements
// or fp32; each sum is rounded once.
struct AddRowsGradArgs {
  Operand drows;
  ConstOperand dy;
  int64_t t = 0, h = 0, p = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ADD_ROWS_H_
