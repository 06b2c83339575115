#ifndef ANGEL_PTM_KERNELS_OPS_CAST_H_
#define ANGEL_PTM_KERNELS_OPS_CAST_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[n] = x[n] converted: fp32 rounded to bf16 (to nearest, ties to even), or bf16 widened to fp32 exactly.
struct CastArgs {
  Operand y;
  ConstOperand x;
  int64_t n = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_CAST_H_
