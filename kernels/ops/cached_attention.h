#ifndef ANGEL_PTM_KERNELS_OPS_CACHED_ATTENTION_H_
#define ANGEL_PTM_KERNELS_OPS_CACHED_ATTENTION_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// One decoding step with a cache: writes k[B,G,D] and v into row *position of k_cache and v_cache [B,S_max,G,D]; then
// o[B,Q,D] attends over rows 0..*position. All operands are elements.
struct CachedAttentionArgs {
  Operand o, k_cache, v_cache;
  ConstOperand q, k, v;
  int64_t v_stride = 0;
  const int32_t* position = nullptr;
  int64_t b = 0, s_max = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_CACHED_ATTENTION_H_
