#ifndef ANGEL_PTM_KERNELS_OPS_ATTENTION_H_
#define ANGEL_PTM_KERNELS_OPS_ATTENTION_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Grouped-query attention that never materialises the scores (Dao 2023, FlashAttention-2): causal within documents, or
// full, where every query sees all keys of its row. Computes o[T,Q,D] from q[T,Q,D], k[T,G,D] and v, whose token t
// starts at v + t * v_stride elements and holds [G,D].
//
// Causal (keys == 0): query i of row b sees the keys j of that row with segment_start[b*S+i] <= j <= i. Full
// (keys > 0): k and v have B * keys tokens, and every query of row b sees the first key_counts[b] keys of that row, at
// least one; without key_counts, all of them. A key or value that a query does not see changes none of the query's
// results, even if it is NaN. lse[Q,T] is the log-sum-exp of the scaled scores. With bf16 operands, scores, softmax and
// sums are fp32; probabilities, and in backward also the gradients of scores, are rounded to bf16 before they are
// multiplied with other operands.
struct AttentionArgs {
  Operand o, lse;
  ConstOperand q, k, v;
  int64_t v_stride = 0;
  const int32_t* segment_start = nullptr;  // [T], index within the row; causal only
  const int32_t* key_counts = nullptr;     // [B] or null; full only
  int64_t keys = 0;                        // full attention: keys per row; 0: causal
  int64_t b = 0, s = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

// dq[T,Q,D], dk[T,G,D] and dv (strided like v) are overwritten. do_ is [T,Q,D]. A query and a key that do not see each
// other do not change each other's gradients; the gradients of keys that no query sees, and of their values, are zero.
struct AttentionGradArgs {
  Operand dq, dk, dv;
  ConstOperand do_, o, lse, q, k, v;
  int64_t v_stride = 0, dv_stride = 0;
  const int32_t* segment_start = nullptr;
  const int32_t* key_counts = nullptr;
  int64_t keys = 0;
  int64_t b = 0, s = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ATTENTION_H_
