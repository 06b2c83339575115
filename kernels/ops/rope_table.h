#ifndef ANGEL_PTM_KERNELS_OPS_ROPE_TABLE_H_
#define ANGEL_PTM_KERNELS_OPS_ROPE_TABLE_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// cos_sin[T, D/2, 2] fp32 for rotate-half RoPE at positions[T]. inv_freq_i = base^(-2i/D); alpha > 0 uses the fixed NTK
// base theta * alpha^(D/(D-2)) (HunYuan "dynamic" scaling), alpha == 0 uses theta.
struct RopeTableArgs {
  Operand cos_sin;
  const int32_t* positions = nullptr;
  int64_t t = 0, d = 0;
  double theta = 10000, alpha = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ROPE_TABLE_H_
