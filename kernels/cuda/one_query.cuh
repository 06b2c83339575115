// Attention of one query, computed by a block, for kernels whose queries are too few to form tiles: the softmax of its
// scores over some rows of keys, and the sum of their values weighted by it, in fp32. A warp handles every eighth key,
// a lane every 32nd element of the head. A warp keeps a running maximum; the results of the warps are added in order.
#ifndef ANGEL_PTM_KERNELS_CUDA_ONE_QUERY_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ONE_QUERY_CUH_

#include <cfloat>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/language.cuh"

namespace angel_ptm::cuda {

inline constexpr int kOneQueryThreads = 256, kOneQueryDimMax = 256;

template <typename T>
struct OneQuery {
  T* o;                 // [d]
  const T *q, *k, *v;   // [d]; rows of keys and values
  std::int64_t stride;  // from one row of keys, or of values, to the next
  int keys, d;          // keys >= 1; 1 <= d <= kOneQueryDimMax
};

template <typename T, int kMine>
APTM_DEVICE void LoadColumns(float (&x)[kMine], const T* from, int d) {
  APTM_UNROLL for (int j = 0; j < kMine; ++j) {
    const int i = static_cast<int>(threadIdx.x) % kWarpLanes + j * kWarpLanes;
    x[j] = i < d ? Widened(from[i]) : 0.0f;
  }
}

// For blocks of kOneQueryThreads threads. score_of(q k, key) is the score of a key.
template <typename T, typename ScoreOf>
APTM_DEVICE void Attend(const OneQuery<T>& p, const ScoreOf& score_of) {
  constexpr int kWarps = kOneQueryThreads / kWarpLanes, kMine = kOneQueryDimMax / kWarpLanes;
  APTM_SHARED(float, sums, kWarps* kOneQueryDimMax);
  APTM_SHARED(float, maxima, kWarps);
  APTM_SHARED(float, totals, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes, lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  float q[kMine], o[kMine] = {}, maximum = -FLT_MAX, total = 0;
  LoadColumns(q, p.q, p.d);
  for (int key = warp; key < p.keys; key += kWarps) {
    float x[kMine], score = 0;
    LoadColumns(x, p.k + key * p.stride, p.d);
    APTM_UNROLL for (int j = 0; j < kMine; ++j) score += q[j] * x[j];
    score = score_of(WarpSum(score), key);
    const float next = score > maximum ? score : maximum, factor = expf(maximum - next), weight = expf(score - next);
    maximum = next;
    total = total * factor + weight;
    LoadColumns(x, p.v + key * p.stride, p.d);
    APTM_UNROLL for (int j = 0; j < kMine; ++j) o[j] = o[j] * factor + weight * x[j];
  }
  APTM_UNROLL for (int j = 0; j < kMine; ++j) sums[warp * kOneQueryDimMax + lane + j * kWarpLanes] = o[j];
  if (lane == 0) maxima[warp] = maximum, totals[warp] = total;
  __syncthreads();
  for (int i = 0; i < kWarps; ++i) maximum = maxima[i] > maximum ? maxima[i] : maximum;
  for (int i = threadIdx.x; i < p.d; i += kOneQueryThreads) {
    float sum = 0, of_all = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float factor = expf(maxima[w] - maximum);
      sum += factor * sums[w * kOneQueryDimMax + i];
      of_all += factor * totals[w];
    }
    StoreRounded(p.o + i, sum / of_all);
  }
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ONE_QUERY_CUH_
