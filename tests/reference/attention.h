// Grouped-query attention, causal within documents or full, with all scores written out, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_ATTENTION_H_
#define ANGEL_PTM_TESTS_REFERENCE_ATTENTION_H_

#include <cstdint>

namespace angel_ptm::reference {

struct AttentionShape {
  int64_t b, s, q_heads, kv_heads, d;
  double scale;
  int64_t keys = 0;                     // full attention: keys per row; 0: causal
  const int32_t* key_counts = nullptr;  // [B] or null; full attention: a row's queries see its first key_counts[b] keys
  int64_t key_tokens() const { return b * (keys > 0 ? keys : s); }
};

// o[B*S,Q,D] and lse[Q,B*S] (may be null) from q[B*S,Q,D], k[B*S,G,D], v[B*S,G,D]. Query i of a row sees keys j of that
// row with segment_start[row,i] <= j <= i. In full attention k and v have key_tokens() tokens, and segment_start is not
// used.
void Attention(double* o, double* lse, const double* q, const double* k, const double* v, const int32_t* segment_start,
               const AttentionShape& shape);
// dq, dk, dv are overwritten.
void AttentionGrad(double* dq, double* dk, double* dv, const double* do_, const double* q, const double* k,
                   const double* v, const int32_t* segment_start, const AttentionShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_ATTENTION_H_
