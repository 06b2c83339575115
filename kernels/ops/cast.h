#ifndef ANGEL_PTM_KERNELS_OPS_CAST_H_
#define ANGEL_PTM_KERNELS_OPS_CAST_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[n] = x[n] in another type: fp32 rounded to bf16 (nearest, ties to even), or bf16 as the fp32 values they are.
struct CastArgs {
  Operand y;
  ConstOperand x;
  int64_t n = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_CAST_H_
