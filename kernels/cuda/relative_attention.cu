// Attention with a bias by distance (kernels/ops/relative_attention.h): o = softmax(q k^T + bias) v over a row's first
// keys, scores and weights in fp32.
//
// Bytes of elements: 3 S Q D per row; every query reads keys and values again. FLOPs: 4 S^2 Q D. A plain
// implementation: a block handles a query of a head (one_query.cuh). Only frozen text encoders of a few hundred tokens
// need it, and they spend their time in products.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/one_query.cuh"
#include "kernels/ops/relative_attention.h"

namespace angel_ptm::cuda {
namespace {

template <typename T>
struct Problem {
  T* o;
  const T *qkv, *table;
  const std::int32_t *places, *key_counts;
  std::int64_t s, heads;
  int d;
};

template <typename T>
__global__ void __launch_bounds__(kOneQueryThreads) RelativeAttention(Problem<T> p) {
  const std::int64_t head = blockIdx.x % p.heads, token = blockIdx.x / p.heads, width = p.heads * p.d;
  const std::int64_t row = token / p.s, query = token % p.s;
  const T* const rows = p.qkv + row * p.s * 3 * width + head * p.d;
  Attend(OneQuery<T>{.o = p.o + blockIdx.x * static_cast<std::int64_t>(p.d),
                     .q = rows + query * 3 * width,
                     .k = rows + width,
                     .v = rows + 2 * width,
                     .stride = 3 * width,
                     .keys = p.key_counts[row],
                     .d = p.d},
         [&](float product, int key) {
           return product + Widened(p.table[p.places[key - query + p.s - 1] * p.heads + head]);
         });
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
    Launch({.grid = {.x = static_cast<unsigned>(args.b * args.s * args.heads)}, .block = {.x = kOneQueryThreads}},
           context, &RelativeAttention<T>, p);
  });
}

}  // namespace angel_ptm::cuda
