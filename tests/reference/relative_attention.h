// Full attention with a bias by distance and unscaled scores, all written out, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_RELATIVE_ATTENTION_H_
#define ANGEL_PTM_TESTS_REFERENCE_RELATIVE_ATTENTION_H_

#include <cstdint>

namespace angel_ptm::reference {

// o[B*S,Q,D] from qkv[B*S,3,Q,D]: query i of row b sees the row's keys j < key_counts[b], with
// table[places[j - i + S - 1], head] of table[P,Q] added to their product.
struct RelativeAttentionShape {
  int64_t b, s, heads, d;
};
void RelativeAttention(double* o, const double* qkv, const double* table, const int32_t* places,
                       const int32_t* key_counts, const RelativeAttentionShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_RELATIVE_ATTENTION_H_
