#ifndef ANGEL_PTM_KERNELS_OPS_QK_ROPE_NORM_H_
#define ANGEL_PTM_KERNELS_OPS_QK_ROPE_NORM_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// From qkv[T, (Q+2G)*D] (queries, then keys, then values): q[T,Q,D] = RMSNorm(RoPE(query)) * q_weight, k[T,G,D]
// likewise. QK-norm comes after RoPE (HunYuan V1). RoPE pairs element i with i + D/2. qkv, q, k and the weights are
// elements.
struct QkRopeNormArgs {
  Operand q, k, q_rstd, k_rstd;  // [T,Q,D], [T,G,D], [T,Q] fp32, [T,G] fp32
  ConstOperand qkv, cos_sin, q_weight, k_weight;
  int64_t t = 0, q_heads = 0, kv_heads = 0, d = 0;
  float epsilon = 1e-5f;
};

// Writes the query and key columns of dqkv[T, (Q+2G)*D] (AttentionGrad writes the value columns) and dq_weight[D] and
// dk_weight[D] (+)=, either of which may be null. All operands but the saved rstd and cos_sin are elements.
struct QkRopeNormGradArgs {
  Operand dqkv, dq_weight, dk_weight;
  ConstOperand dq, dk, qkv, q_rstd, k_rstd, cos_sin, q_weight, k_weight;
  int64_t t = 0, q_heads = 0, kv_heads = 0, d = 0;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_QK_ROPE_NORM_H_
