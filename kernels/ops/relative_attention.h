#ifndef ANGEL_PTM_KERNELS_OPS_RELATIVE_ATTENTION_H_
#define ANGEL_PTM_KERNELS_OPS_RELATIVE_ATTENTION_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Attention of all queries of a row to its keys, with scores that are not scaled and get a bias by distance (Raffel et
// al. 2020, T5): o[T,Q,D] from qkv[T,3,Q,D], score(i, j) = q_i k_j + table[places[j - i + S - 1], head]. A row's
// queries see its first key_counts[b] keys, at least one; keys they do not see, even NaN, change nothing. table is
// [P,Q]. o, qkv and table are elements; scores, softmax and sums are fp32 and are not rounded in between. Forward only:
// the encoders that need it are frozen.
struct RelativeAttentionArgs {
  Operand o;
  ConstOperand qkv, table;
  const int32_t* places = nullptr;      // [2 S - 1], each in [0, P)
  const int32_t* key_counts = nullptr;  // [B]
  int64_t b = 0, s = 0, heads = 0, d = 0, p = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_RELATIVE_ATTENTION_H_
