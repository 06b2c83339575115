// Sums over tokens in an order of the shape alone: a fixed set of tokens for each of a few blocks, whose shares, fp32,
// are then added in order.
#ifndef ANGEL_PTM_KERNELS_CUDA_ROW_SHARES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ROW_SHARES_CUH_

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/operand.h"

namespace angel_ptm::cuda {

// Blocks over which rows are dealt: a number of the shape, not of the GPU.
inline std::int64_t RowBlocks(std::int64_t t) {
  constexpr std::int64_t kRowBlocksMax = 264;
  return t < kRowBlocksMax ? t : kRowBlocksMax;
}

inline constexpr int kSharesThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kSharesThreads)
    AddShares(T* y, const float* shares, std::int64_t count, std::int64_t stride, std::int64_t n, bool accumulate) {
  ForGroups<1>(n, [&](std::int64_t i) {
    float sum = accumulate ? Widened(y[i]) : 0.0f;
    for (std::int64_t share = 0; share < count; ++share) sum += shares[share * stride + i];
    StoreRounded(y + i, sum);
  });
}

// y[n] (+)= sum over shares, `stride` elements apart, rounded once. Nothing without y.
inline void LaunchAddShares(const Operand& y, const float* shares, std::int64_t count, std::int64_t stride,
                            std::int64_t n, bool accumulate, const LaunchContext& context) {
  if (!y) return;
  WithElements(y.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding(n, kSharesThreads), context, &AddShares<T>, y.as<T>(), shares, count, stride, n, accumulate);
  });
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ROW_SHARES_CUH_
