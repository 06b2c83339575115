#include "comm/ordered_sum.h"

#include <algorithm>
#include <cstring>

namespace angel_ptm {
namespace {

// Partial sums of one block stay in the level-1 cache while the ranks' arrays stream through.
constexpr int64_t kBlock = 1024;

}  // namespace

void OrderedSum(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate) {
  alignas(64) float s[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    std::memcpy(s, x + begin, static_cast<size_t>(m) * sizeof(float));
    for (int r = 1; r < ranks; ++r) {
      const float* x_r = x + r * stride + begin;
      for (int64_t i = 0; i < m; ++i) s[i] += x_r[i];
    }
    float* out = dst + begin;
    if (accumulate) {
      for (int64_t i = 0; i < m; ++i) out[i] += s[i];
    } else {
      std::memcpy(out, s, static_cast<size_t>(m) * sizeof(float));
    }
  }
}

}  // namespace angel_ptm
