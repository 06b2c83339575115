#include "tests/reference/relative_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace angel_ptm::reference {

void RelativeAttention(double* o, const double* qkv, const double* table, const int32_t* places,
                       const int32_t* key_counts, const RelativeAttentionShape& z) {
  const int64_t width = z.heads * z.d;
  for (int64_t query = 0; query < z.b * z.s; ++query) {
    const int64_t row = query / z.s, i = query % z.s;
    for (int64_t head = 0; head < z.heads; ++head) {
      const double* const q = qkv + query * 3 * width + head * z.d;
      std::vector<double> p;
      for (int64_t j = 0; j < key_counts[row]; ++j) {
        const double* const k = qkv + (row * z.s + j) * 3 * width + width + head * z.d;
        double score = table[places[j - i + z.s - 1] * z.heads + head];
        for (int64_t c = 0; c < z.d; ++c) score += q[c] * k[c];
        p.push_back(score);
      }
      const double highest = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (double& x : p) sum += x = std::exp(x - highest);
      double* const out = o + query * width + head * z.d;
      std::fill_n(out, z.d, 0.0);
      for (int64_t j = 0; j < key_counts[row]; ++j) {
        const double* const v = qkv + (row * z.s + j) * 3 * width + 2 * width + head * z.d;
        for (int64_t c = 0; c < z.d; ++c) out[c] += p[j] / sum * v[c];
      }
    }
  }
}

}  // namespace angel_ptm::reference
