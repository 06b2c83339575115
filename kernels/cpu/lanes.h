// Sums over a row in an order fixed by the row's length alone: without -ffast-math the compiler may not reassociate, so
// the partial sums are written out. Also the fixed blocks of tokens over which weight gradients are summed.
#ifndef ANGEL_PTM_KERNELS_CPU_LANES_H_
#define ANGEL_PTM_KERNELS_CPU_LANES_H_

#include <algorithm>
#include <cstdint>

namespace angel_ptm {

inline constexpr int kSumLanes = 64;  // four 512-bit registers, enough to hide the latency of an addition
inline constexpr int kTailLanes = 16;

// sum of term(i), i in [0, n).
template <typename Term>
inline float SumInLanes(int64_t n, const Term& term) {
  alignas(64) float lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (; i + kTailLanes <= n; i += kTailLanes) {
    for (int lane = 0; lane < kTailLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (int lane = 0; i < n; ++i, ++lane) lanes[lane] += term(i);
  for (int width = kSumLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

// Tokens are cut into at most kTokenBlocksMax blocks whatever the number of threads. Each block sums its own partial
// result in token order, then the blocks are added in order: the bits do not depend on the team.
inline constexpr int64_t kTokenBlocksMax = 64, kTokenBlockMin = 16;
inline int64_t TokenBlock(int64_t t) { return std::max(kTokenBlockMin, (t + kTokenBlocksMax - 1) / kTokenBlocksMax); }
inline int64_t TokenBlocks(int64_t t) { return (t + TokenBlock(t) - 1) / TokenBlock(t); }

// out[i] (+)= sum over blocks, in order, of partial[block * stride + i], i in [begin, end). There is at least one
// block.
inline void AddTokenBlocks(float* __restrict out, const float* __restrict partial, int64_t blocks, int64_t stride,
                           int64_t begin, int64_t end, bool accumulate) {
  if (!accumulate) std::fill(out + begin, out + end, 0.0f);
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t i = begin; i < end; ++i) out[i] += partial[block * stride + i];
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_LANES_H_
