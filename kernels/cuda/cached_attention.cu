// A decoding step of attention (kernels/ops/cached_attention.h): k and v go to row `position` of the caches, then
// o = softmax(scale q k_cache^T) v_cache over rows 0 .. position, with scores and weights in fp32.
//
// Bytes of elements: 2 G D for a row of the batch and a row of its cache, which every query head of the group reads
// again from the GPU's cache; FLOPs: 4 Q D for each. Limit: memory; with few heads, the latency of one block's walk
// over its keys, which are not yet split over blocks. (1) One thread per element writes the caches. (2) One block per
// query head attends (one_query.cuh).
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/one_query.cuh"
#include "kernels/ops/cached_attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kAppendThreads = 256;

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
__global__ void __launch_bounds__(kAppendThreads) AppendToCache(Problem<T> p) {
  const std::int64_t row = p.kv_heads * p.d, position = *p.position;
  ForGroups<1>(p.b * row, [&](std::int64_t i) {
    const std::int64_t at = (i / row * p.s_max + position) * row + i % row;
    p.k_cache[at] = p.k[i];
    p.v_cache[at] = p.v[i / row * p.v_stride + i % row];
  });
}

template <typename T>
__global__ void __launch_bounds__(kOneQueryThreads) CachedAttention(Problem<T> p) {
  const std::int64_t head = blockIdx.x % p.q_heads, row = blockIdx.x / p.q_heads, stride = p.kv_heads * p.d;
  const std::int64_t at = row * p.s_max * stride + head / (p.q_heads / p.kv_heads) * p.d;
  const std::int64_t query = blockIdx.x * static_cast<std::int64_t>(p.d);
  Attend(OneQuery<T>{.o = p.o + query,
                     .q = p.q + query,
                     .k = p.k_cache + at,
                     .v = p.v_cache + at,
                     .stride = stride,
                     .keys = *p.position + 1,
                     .d = p.d},
         [&](float product, int) { return product * p.scale; });
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
    Launch(Striding(args.b * args.kv_heads * args.d, kAppendThreads), context, &AppendToCache<T>, p);
    Launch({.grid = {.x = static_cast<unsigned>(args.b * args.q_heads)}, .block = {.x = kOneQueryThreads}}, context,
           &CachedAttention<T>, p);
  });
}

}  // namespace angel_ptm::cuda
