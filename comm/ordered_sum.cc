#include "comm/ordered_sum.h"

#include <algorithm>
#include <cstring>

// Compiled for wider vectors, too: sums of floats vectorise without changing their order, so the bits are the same. The
// section is that of all code which not every machine runs (cmake/cpu_isa_sections.ld).
#define APTM_SUM_FOR(isa) __attribute__((target(isa), section("cpu_kernels")))

namespace angel_ptm {
namespace {

// Partial sums of one block stay in the level-1 cache while the ranks' arrays stream through.
constexpr int64_t kBlock = 1024;

__attribute__((always_inline)) inline void SumBlocks(float* dst, const float* x, int64_t stride, int ranks, int64_t n,
                                                     bool accumulate) {
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

using Sum = void (*)(float*, const float*, int64_t, int, int64_t, bool);

void SumPortably(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate) {
  SumBlocks(dst, x, stride, ranks, n, accumulate);
}
#if defined(__x86_64__)
APTM_SUM_FOR("avx2")
void SumWithAvx2(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate) {
  SumBlocks(dst, x, stride, ranks, n, accumulate);
}
APTM_SUM_FOR("avx512f")
void SumWithAvx512(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate) {
  SumBlocks(dst, x, stride, ranks, n, accumulate);
}
#endif

Sum WidestSum() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return &SumWithAvx512;
  if (__builtin_cpu_supports("avx2")) return &SumWithAvx2;
#endif
  return &SumPortably;
}

}  // namespace

void OrderedSum(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate) {
  static const Sum sum = WidestSum();
  sum(dst, x, stride, ranks, n, accumulate);
}

}  // namespace angel_ptm
