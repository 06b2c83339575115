// Heads of up to 256 elements, one per warp, as the pairs that RoPE rotates.
#ifndef ANGEL_PTM_KERNELS_CUDA_HEAD_PAIRS_CUH_
#define ANGEL_PTM_KERNELS_CUDA_HEAD_PAIRS_CUH_

#include "kernels/cuda/elements.cuh"

namespace angel_ptm::cuda {

inline constexpr int kHeadThreads = 256, kHeadWarps = kHeadThreads / kWarpLanes;
inline constexpr int kHeadDimMax = 256, kPairs = kHeadDimMax / 2 / kWarpLanes;  // of a lane

// A lane's share of a head: the first and second elements of its pairs. A pair is elements (i, i + D/2), or, if
// interleaved, (2i, 2i + 1). Zero after the last pair.
struct Pairs {
  float first[kPairs], second[kPairs];
};

template <typename T>
APTM_DEVICE Pairs LoadPairs(const T* from, int half, bool interleaved = false) {
  const int lane = threadIdx.x % kWarpLanes;
  Pairs x;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    const int i = lane + j * kWarpLanes;
    const int at = interleaved ? 2 * i : i, apart = interleaved ? 1 : half;
    x.first[j] = i < half ? Widened(from[at]) : 0.0f;
    x.second[j] = i < half ? Widened(from[at + apart]) : 0.0f;
  }
  return x;
}
template <typename T>
APTM_DEVICE void StorePairs(T* to, const Pairs& x, int half, bool interleaved = false) {
  const int lane = threadIdx.x % kWarpLanes;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    const int i = lane + j * kWarpLanes;
    if (i >= half) continue;
    const int at = interleaved ? 2 * i : i, apart = interleaved ? 1 : half;
    StoreRounded(to + at, x.first[j]);
    StoreRounded(to + at + apart, x.second[j]);
  }
}

// R x if sine is 1, R^T x if sine is -1. cos_sin: of the token.
APTM_DEVICE Pairs Turned(const Pairs& x, const float* cos_sin, int half, float sine) {
  const int lane = threadIdx.x % kWarpLanes;
  Pairs y;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    const int i = lane + j * kWarpLanes;
    const float c = i < half ? cos_sin[2 * i] : 0.0f, s = i < half ? sine * cos_sin[2 * i + 1] : 0.0f;
    y.first[j] = x.first[j] * c - x.second[j] * s;
    y.second[j] = x.second[j] * c + x.first[j] * s;
  }
  return y;
}

// The sum over the head, in every lane.
template <typename Fn>
APTM_DEVICE float SumOfHead(const Fn& pair) {
  float sum = 0;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) sum += pair(j);
  return WarpSum(sum);
}

// to[D] = the sum of the warps' shares, in order. Dynamic shared memory: kHeadWarps * D fp32.
APTM_DEVICE void AddWarps(float* to, const Pairs& mine, int half, bool interleaved = false) {
  APTM_DYNAMIC_SHARED(shared);
  float* const shares = reinterpret_cast<float*>(shared);  // [kHeadWarps,D]
  const int thread = threadIdx.x, d = 2 * half;
  __syncthreads();  // all threads have read the previous contents
  StorePairs(shares + thread / kWarpLanes * d, mine, half, interleaved);
  __syncthreads();
  for (int i = thread; i < d; i += kHeadThreads) {
    float sum = 0;
    for (int warp = 0; warp < kHeadWarps; ++warp) sum += shares[warp * d + i];
    to[i] = sum;
  }
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_HEAD_PAIRS_CUH_
