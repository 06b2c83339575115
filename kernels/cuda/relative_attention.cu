// Attention with a bias by distance (kernels/ops/relative_attention.h): o = softmax(q k^T + bias) v over a row's first
// keys, scores and weights in fp32.
//
// Bytes of elements: 3 S Q D of a row, keys and values read again by every query; FLOPs: 4 S^2 Q D. Plain: a block
// takes a query of a head, a warp every eighth key, a lane every 32nd of D; a warp keeps a running maximum, and what
// warps have is added in order. Frozen text encoders of a few hundred tokens need it, whose time is in their products.
#include <cfloat>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/relative_attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpLanes;
constexpr int kDimMax = 256, kMine = kDimMax / kWarpLanes;

template <typename T>
struct Problem {
  T* o;
  const T *qkv, *table;
  const std::int32_t *places, *key_counts;
  std::int64_t s, heads;
  int d;
};

template <typename T>
APTM_DEVICE void LoadColumns(float (&x)[kMine], const T* from, int d) {
  APTM_UNROLL for (int j = 0; j < kMine; ++j) {
    const int i = static_cast<int>(threadIdx.x) % kWarpLanes + j * kWarpLanes;
    x[j] = i < d ? Widened(from[i]) : 0.0f;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) RelativeAttention(Problem<T> p) {
  APTM_SHARED(float, sums, kWarps* kDimMax);
  APTM_SHARED(float, maxima, kWarps);
  APTM_SHARED(float, totals, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes, lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const std::int64_t head = blockIdx.x % p.heads, token = blockIdx.x / p.heads, width = p.heads * p.d;
  const std::int64_t row = token / p.s, query = token % p.s;
  const T* const rows = p.qkv + row * p.s * 3 * width + head * p.d;
  const int keys = p.key_counts[row];
  float q[kMine], o[kMine] = {}, maximum = -FLT_MAX, total = 0;
  LoadColumns(q, rows + query * 3 * width, p.d);
  for (int key = warp; key < keys; key += kWarps) {
    float x[kMine], score = 0;
    LoadColumns(x, rows + key * 3 * width + width, p.d);
    APTM_UNROLL for (int j = 0; j < kMine; ++j) score += q[j] * x[j];
    score = WarpSum(score) + Widened(p.table[p.places[key - query + p.s - 1] * p.heads + head]);
    const float next = score > maximum ? score : maximum, factor = expf(maximum - next), weight = expf(score - next);
    maximum = next;
    total = total * factor + weight;
    LoadColumns(x, rows + key * 3 * width + 2 * width, p.d);
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

void LaunchRelativeAttention(const RelativeAttentionArgs& args, const LaunchContext& context) {
  WithElements(args.o.dtype, [&](auto element) {
    using T = decltype(element);
    const Problem<T> p = {.o = args.o.as<T>(),
                          .qkv = args.qkv.as<T>(),
                          .table = args.table.as<T>(),
                          .places = args.places,
                          .key_counts = args.key_counts,
                          .s = args.s,
                          .heads = args.heads,
                          .d = static_cast<int>(args.d)};
    Launch({.grid = {.x = static_cast<unsigned>(args.b * args.s * args.heads)}, .block = {.x = kThreads}}, context,
           &RelativeAttention<T>, p);
  });
}

}  // namespace angel_ptm::cuda
