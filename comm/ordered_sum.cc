#include "comm/ordered_sum.h"

#include <algorithm>

#include "angel_ptm/base/bfloat16.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

// Also compiled for wider vectors: elementwise sums vectorise without changing their order, so the bits are the same.
// The section holds all code that not every machine can run (cmake/cpu_isa_sections.ld).
#define APTM_SUM_FOR(isa) __attribute__((target(isa), section("cpu_kernels")))
// For the parts inlined into each of them.
#define APTM_PART_OF_SUM __attribute__((always_inline)) inline

namespace angel_ptm {
namespace {

// Partial sums of one block stay in the level-1 cache while the ranks' arrays stream through.
constexpr int64_t kBlock = 1024;
// A result that outgrows the core's cache is written past it, without first being read into it, which saves a third of
// the traffic.
constexpr int64_t kStreamedBytes = int64_t{1} << 20;

APTM_PART_OF_SUM float At(const float* x, int64_t i) { return x[i]; }
APTM_PART_OF_SUM float At(const BFloat16* x, int64_t i) { return ToFloat(x[i]); }

// out = a + b. out may be a or b.
template <typename A, typename B>
APTM_PART_OF_SUM void Add(float* out, const A* a, const B* b, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = At(a, i) + At(b, i);
}

// out += a + b.
template <typename A, typename B>
APTM_PART_OF_SUM void AddSum(float* out, const A* a, const B* b, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] += At(a, i) + At(b, i);
}

// Like Add, but written past the cache; out is 16-byte aligned.
APTM_PART_OF_SUM void AddStreamed(float* out, const float* a, const float* b, int64_t n) {
#ifdef __SSE2__
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) _mm_stream_ps(out + i, _mm_add_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)));
  for (; i < n; ++i) out[i] = a[i] + b[i];
#else
  Add(out, a, b, n);
#endif
}
template <typename A>
APTM_PART_OF_SUM void AddStreamed(float* out, const A* a, const BFloat16* b, int64_t n) {
  Add(out, a, b, n);
}

// The last addition of a block: `before` is the sum of all addends but the last.
template <typename A, typename B>
APTM_PART_OF_SUM void Finish(float* out, const A* before, const B* last, int64_t n, bool accumulate, bool streamed) {
  if (accumulate) {
    AddSum(out, before, last, n);
  } else if (streamed) {
    AddStreamed(out, before, last, n);
  } else {
    Add(out, before, last, n);
  }
}

// Sums the addends of at least two ranks.
template <typename T>
APTM_PART_OF_SUM void SumBlocks(float* dst, std::span<const std::byte* const> x, int64_t n, bool accumulate) {
  const auto addend = [&](size_t r, int64_t begin) { return reinterpret_cast<const T*>(x[r]) + begin; };
  const size_t ranks = x.size();
  const bool streamed = n * int64_t{sizeof(float)} >= kStreamedBytes && reinterpret_cast<uintptr_t>(dst) % 16 == 0;
  alignas(64) float partial[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    if (ranks == 2) {
      Finish(dst + begin, addend(0, begin), addend(1, begin), m, accumulate, streamed);
      continue;
    }
    Add(partial, addend(0, begin), addend(1, begin), m);
    for (size_t r = 2; r + 1 < ranks; ++r) Add(partial, partial, addend(r, begin), m);
    Finish(dst + begin, partial, addend(ranks - 1, begin), m, accumulate, streamed);
  }
#ifdef __SSE2__
  if (streamed) _mm_sfence();  // before anyone is told that the result is there
#endif
}

// The same, rounded to bf16.
template <typename T>
APTM_PART_OF_SUM void SumBlocksRounded(BFloat16* dst, std::span<const std::byte* const> x, int64_t n) {
  const auto addend = [&](size_t r, int64_t begin) { return reinterpret_cast<const T*>(x[r]) + begin; };
  alignas(64) float partial[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin);
    Add(partial, addend(0, begin), addend(1, begin), m);
    for (size_t r = 2; r < x.size(); ++r) Add(partial, partial, addend(r, begin), m);
    for (int64_t i = 0; i < m; ++i) dst[begin + i] = ToBFloat16(partial[i]);
  }
}

// Where a sum goes: `sum`, or `rounded` if `sum` is null.
struct SumTarget {
  float* sum = nullptr;
  BFloat16* rounded = nullptr;
  bool accumulate = false;  // add to what is in `sum`
};

template <typename T>
APTM_PART_OF_SUM void SumTyped(const SumTarget& to, std::span<const std::byte* const> x, int64_t n) {
  if (to.sum == nullptr) return SumBlocksRounded<T>(to.rounded, x, n);
  SumBlocks<T>(to.sum, x, n, to.accumulate);
}

APTM_PART_OF_SUM void SumOf(const SumTarget& to, std::span<const std::byte* const> x, DType type, int64_t n) {
  if (type == DType::kBFloat16) {
    SumTyped<BFloat16>(to, x, n);
  } else {
    SumTyped<float>(to, x, n);
  }
}

using Sum = void (*)(const SumTarget&, std::span<const std::byte* const>, DType, int64_t);

void SumPortably(const SumTarget& to, std::span<const std::byte* const> x, DType type, int64_t n) {
  SumOf(to, x, type, n);
}
#if defined(__x86_64__)
APTM_SUM_FOR("avx2")
void SumWithAvx2(const SumTarget& to, std::span<const std::byte* const> x, DType type, int64_t n) {
  SumOf(to, x, type, n);
}
APTM_SUM_FOR("avx512f")
void SumWithAvx512(const SumTarget& to, std::span<const std::byte* const> x, DType type, int64_t n) {
  SumOf(to, x, type, n);
}
#endif

Sum WidestSum() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return &SumWithAvx512;
  if (__builtin_cpu_supports("avx2")) return &SumWithAvx2;
#endif
  return &SumPortably;
}

// The sum of a single rank's addend.
template <typename T>
void SumOfOne(float* dst, const T* only, int64_t n, bool accumulate) {
  if (accumulate) {
    for (int64_t i = 0; i < n; ++i) dst[i] += At(only, i);
  } else if (static_cast<const void*>(dst) != only) {
    for (int64_t i = 0; i < n; ++i) dst[i] = At(only, i);
  }
}

}  // namespace

void OrderedSum(float* dst, std::span<const std::byte* const> x, DType type, int64_t n, bool accumulate) {
  if (x.size() > 1) return WidestSum()({.sum = dst, .accumulate = accumulate}, x, type, n);
  if (type == DType::kBFloat16) return SumOfOne(dst, reinterpret_cast<const BFloat16*>(x[0]), n, accumulate);
  SumOfOne(dst, reinterpret_cast<const float*>(x[0]), n, accumulate);
}

void OrderedSumRounded(BFloat16* dst, std::span<const std::byte* const> x, DType type, int64_t n) {
  const size_t count = static_cast<size_t>(n);
  if (x.size() > 1) return WidestSum()({.rounded = dst}, x, type, n);
  // A single bf16 addend needs no rounding.
  if (type == DType::kBFloat16) {
    std::copy_n(reinterpret_cast<const BFloat16*>(x[0]), count, dst);
  } else {
    Round({dst, count}, {reinterpret_cast<const float*>(x[0]), count});
  }
}

}  // namespace angel_ptm
