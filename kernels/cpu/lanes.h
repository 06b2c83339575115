// Sums over a row in an order that depends only on the row's length. Without -ffast-math the compiler may not
// reassociate additions, so the partial sums are written out. Also the fixed blocks of tokens over which weight
// gradients are summed.
#ifndef ANGEL_PTM_KERNELS_CPU_LANES_H_
#define ANGEL_PTM_KERNELS_CPU_LANES_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/bf16.h"

namespace angel_ptm {

// The sum of a[i] * b[i] * ... for i in [0, n). Lanes are summed separately, in four chains that hide the latency of an
// addition; then the lanes are added.
template <typename T, typename... Rows>
inline float SumOfProducts(int64_t n, const T* a, const Rows*... rows) {
  constexpr int kChains = 4;
  Vector sum[kChains] = {};
  for (int64_t i = 0; i < n; i += kChains * kVectorLanes) {
    for (int chain = 0; chain < kChains && i + chain * kVectorLanes < n; ++chain) {
      Vector product;
      LoadLanes(product, a, i + chain * kVectorLanes, n);
      [[maybe_unused]] const auto multiply = [&](const auto* row) {
        Vector factor;
        LoadLanes(factor, row, i + chain * kVectorLanes, n);
        product *= factor;
      };
      (multiply(rows), ...);
      sum[chain] += product;
    }
  }
  Vector all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  all += __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  all += __builtin_shufflevector(all, all, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  all += __builtin_shufflevector(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += __builtin_shufflevector(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return all[0];
}

// Calls fn(d), with the usual head dimensions as compile-time constants: rows this short are mostly loop overhead.
template <typename Fn>
void WithHeadDim(int64_t d, const Fn& fn) {
  if (d == 64) return fn(std::integral_constant<int64_t, 64>());
  if (d == 128) return fn(std::integral_constant<int64_t, 128>());
  fn(d);
}

// Tokens are cut into at most kTokenBlocksMax blocks whatever the number of threads. Each block is summed in token
// order, then the blocks' sums are added in order: the bits do not depend on the team.
inline constexpr int64_t kTokenBlocksMax = 64, kTokenBlockMin = 16;
inline int64_t TokenBlock(int64_t t) { return std::max(kTokenBlockMin, (t + kTokenBlocksMax - 1) / kTokenBlocksMax); }
inline int64_t TokenBlocks(int64_t t) { return (t + TokenBlock(t) - 1) / TokenBlock(t); }

// Where several rows are added, the number of elements summed at a time: their fp32 sums stay in L1.
inline constexpr int64_t kSumColumns = 256;

// out[i] (+)= the sum over blocks, in order, of partial[block * stride + i], for i in [begin, end), rounded once. There
// is at least one block.
template <typename T>
inline void AddTokenBlocks(T* __restrict out, const float* __restrict partial, int64_t blocks, int64_t stride,
                           int64_t begin, int64_t end, bool accumulate) {
  float sum[kSumColumns];
  for (int64_t at = begin; at < end; at += kSumColumns) {
    const int64_t n = std::min(kSumColumns, end - at);
    for (int64_t i = 0; i < n; ++i) sum[i] = accumulate ? ToFloat(out[at + i]) : 0.0f;
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t i = 0; i < n; ++i) sum[i] += partial[block * stride + at + i];
    }
    for (int64_t i = 0; i < n; ++i) out[at + i] = Rounded<T>(sum[i]);
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_LANES_H_
