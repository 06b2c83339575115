// A decoding step of attention (kernels/ops/cached_attention.h): k and v go to row `position` of the caches, then
// o = softmax(scale q k_cache^T) v_cache over rows 0 .. position, scores and weights in fp32.
//
// Bytes of elements: 2 G D for a row of the batch and a row of its cache, read again by every query head of the group,
// from the cache of the GPU; FLOPs: 4 Q D for each. Limit: memory, or with few heads the latency of one block's walk
// over its keys: they are not yet shared among blocks. (1) A thread an element writes the caches. (2) A block takes a
// query head, a warp every eighth key, a lane every 32nd of D; a warp keeps a running maximum, and what warps have is
// added in order.
#include <cfloat>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/cached_attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpLanes;
constexpr int kDimMax = 256, kMine = kDimMax / kWarpLanes;

template <typename T>
struct Problem {
  T *o, *k_cache, *v_cache;
  const T *q, *k, *v;
  const std::int32_t* position;
  std::int64_t b, s_max, q_heads, kv_heads, v_stride;
  int d;
  float scale;
};

template <typename T>
__global__ void __launch_bounds__(kThreads) AppendToCache(Problem<T> p) {
  const std::int64_t row = p.kv_heads * p.d, position = *p.position;
  ForGroups<1>(p.b * row, [&](std::int64_t i) {
    const std::int64_t at = (i / row * p.s_max + position) * row + i % row;
    p.k_cache[at] = p.k[i];
    p.v_cache[at] = p.v[i / row * p.v_stride + i % row];
  });
}

template <typename T>
APTM_DEVICE void LoadColumns(float (&x)[kMine], const T* from, int d) {
  APTM_UNROLL for (int j = 0; j < kMine; ++j) {
    const int i = static_cast<int>(threadIdx.x) % kWarpLanes + j * kWarpLanes;
    x[j] = i < d ? Widened(from[i]) : 0.0f;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) CachedAttention(Problem<T> p) {
  APTM_SHARED(float, sums, kWarps* kDimMax);
  APTM_SHARED(float, maxima, kWarps);
  APTM_SHARED(float, totals, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes, lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const std::int64_t head = blockIdx.x % p.q_heads, row = blockIdx.x / p.q_heads, stride = p.kv_heads * p.d;
  const std::int64_t at = row * p.s_max * stride + head / (p.q_heads / p.kv_heads) * p.d;
  const int keys = *p.position + 1;
  float q[kMine], o[kMine] = {}, maximum = -FLT_MAX, total = 0;
  LoadColumns(q, p.q + blockIdx.x * static_cast<std::int64_t>(p.d), p.d);
  for (int key = warp; key < keys; key += kWarps) {
    float x[kMine], score = 0;
    LoadColumns(x, p.k_cache + at + key * stride, p.d);
    APTM_UNROLL for (int j = 0; j < kMine; ++j) score += q[j] * x[j];
    score = WarpSum(score) * p.scale;
    const float next = score > maximum ? score : maximum, factor = expf(maximum - next), weight = expf(score - next);
    maximum = next;
    total = total * factor + weight;
    LoadColumns(x, p.v_cache + at + key * stride, p.d);
    APTM_UNROLL for (int j = 0; j < kMine; ++j) o[j] = o[j] * factor + weight * x[j];
  }
  APTM_UNROLL for (int j = 0; j < kMine; ++j) sums[warp * kDimMax + lane + j * kWarpLanes] = o[j];
  if (lane == 0) maxima[warp] = maximum, totals[warp] = total;
  __syncthreads();
  for (int i = 0; i < kWarps; ++i) maximum = maxima[i] > maximum ? maxima[i] : maximum;
  for (int i = threadIdx.x; i < p.d; i += kThreads) {
    float sum = 0, of_all = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float factor = expf(maxima[w] - maximum);
      sum += factor * sums[w * kDimMax + i];
      of_all += factor * totals[w];
    }
    StoreRounded(p.o + blockIdx.x * static_cast<std::int64_t>(p.d) + i, sum / of_all);
  }
}

}  // namespace

void LaunchCachedAttention(const CachedAttentionArgs& args, const LaunchContext& context) {
  WithElements(args.q.dtype, [&](auto element) {
    using T = decltype(element);
    const Problem<T> p = {.o = args.o.as<T>(),
                          .k_cache = args.k_cache.as<T>(),
                          .v_cache = args.v_cache.as<T>(),
                          .q = args.q.as<T>(),
                          .k = args.k.as<T>(),
                          .v = args.v.as<T>(),
                          .position = args.position,
                          .b = args.b,
                          .s_max = args.s_max,
                          .q_heads = args.q_heads,
                          .kv_heads = args.kv_heads,
                          .v_stride = args.v_stride,
                          .d = static_cast<int>(args.d),
                          .scale = args.scale};
    Launch(Striding(args.b * args.kv_heads * args.d, kThreads), context, &AppendToCache<T>, p);
    Launch({.grid = {.x = static_cast<unsigned>(args.b * args.q_heads)}, .block = {.x = kThreads}}, context,
           &CachedAttention<T>, p);
  });
}

}  // namespace angel_ptm::cuda
