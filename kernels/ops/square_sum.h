#ifndef ANGEL_PTM_KERNELS_OPS_SQUARE_SUM_H_
#define ANGEL_PTM_KERNELS_OPS_SQUARE_SUM_H_

#include <cstdint>

#include "angel_ptm/base/fixed_point.h"
#include "kernels/operand.h"

namespace angel_ptm {

// *total += sum of values[n]^2. Each group of kSquareSumGroup elements becomes a fixed-point sum, so any split at group
// borders and any order of calls gives the same bits. Non-finite values set total->non_finite. n is a multiple of
// kSquareSumGroup.
inline constexpr int64_t kSquareSumGroup = 256;
struct SquareSumArgs {
  FixedPointSum* total = nullptr;
  ConstOperand values;  // fp32 or bf16
  int64_t n = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_SQUARE_SUM_H_
