#include "comm/ordered_sum.h"

#include <algorithm>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

// Compiled for wider vectors, too: sums of floats vectorise without changing their order, so the bits are the same. The
// section is that of all code which not every machine runs (cmake/cpu_isa_sections.ld).
#define APTM_SUM_FOR(isa) __attribute__((target(isa), section("cpu_kernels")))
// Part of each of them.
#define APTM_PART_OF_SUM __attribute__((always_inline)) inline

namespace angel_ptm {
namespace {

// Partial sums of one block stay in the level-1 cache while the ranks' arrays stream through.
constexpr int64_t kBlock = 1024;
// A result that outgrows the core's cache is written past it, without first being read into it: a third less traffic.
constexpr int64_t kStreamedBytes = int64_t{1} << 20;

APTM_PART_OF_SUM const float* Floats(const std::byte* p) { return reinterpret_cast<const float*>(p); }

// out = a + b. out may be a or b.
APTM_PART_OF_SUM void Add(float* out, const float* a, const float* b, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

// out += a + b.
APTM_PART_OF_SUM void AddSum(float* out, const float* a, const float* b, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] += a[i] + b[i];
}

// As Add, past the cache; out is 16-byte aligned.
APTM_PART_OF_SUM void AddStreamed(float* out, const float* a, const float* b, int64_t n) {
#ifdef __SSE2__
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) _mm_stream_ps(out + i, _mm_add_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)));
  for (; i < n; ++i) out[i] = a[i] + b[i];
#else
  Add(out, a, b, n);
#endif
}

// Of at least two ranks.
APTM_PART_OF_SUM void SumBlocks(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  const size_t ranks = x.size();
  const bool streamed = n * int64_t{sizeof(float)} >= kStreamedBytes && reinterpret_cast<uintptr_t>(dst) % 16 == 0;
  alignas(64) float partial[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    const float* before = Floats(x[0]) + begin;  // the sum of all but the last
    for (size_t r = 1; r + 1 < ranks; ++r) {
      Add(partial, before, Floats(x[r]) + begin, m);
      before = partial;
    }
    const float* const last = Floats(x[ranks - 1]) + begin;
    if (accumulate) {
      AddSum(dst + begin, before, last, m);
    } else if (streamed) {
      AddStreamed(dst + begin, before, last, m);
    } else {
      Add(dst + begin, before, last, m);
    }
  }
#ifdef __SSE2__
  if (streamed) _mm_sfence();  // before anyone is told that the result is there
#endif
}

using Sum = void (*)(float*, std::span<const std::byte* const>, int64_t, bool);

void SumPortably(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  SumBlocks(dst, x, n, accumulate);
}
#if defined(__x86_64__)
APTM_SUM_FOR("avx2")
void SumWithAvx2(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  SumBlocks(dst, x, n, accumulate);
}
APTM_SUM_FOR("avx512f")
void SumWithAvx512(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  SumBlocks(dst, x, n, accumulate);
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

void OrderedSum(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  if (x.size() > 1) return WidestSum()(dst, x, n, accumulate);
  const float* const only = Floats(x[0]);
  if (accumulate) {
    for (int64_t i = 0; i < n; ++i) dst[i] += only[i];
  } else if (dst != only) {
    std::memcpy(dst, only, static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace angel_ptm
