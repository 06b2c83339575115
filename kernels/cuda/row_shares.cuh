// Sums over tokens in an order that depends on the shape alone: each of a few blocks sums a fixed set of tokens, and
// these fp32 shares are then added in order.
#ifndef ANGEL_PTM_KERNELS_CUDA_ROW_SHARES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ROW_SHARES_CUH_

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/operand.h"

namespace angel_ptm::cuda {

// The number of blocks over which rows are distributed: it depends on the shape, not on the GPU.
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

// y[n] (+)= the sum over shares, which are `stride` elements apart, rounded once. Does nothing if y is null.
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
