// y[T,H] = table[tokens[T]], and dtable[V,H] (+)= dy scattered by tokens and added in token order, without atomics.
//
// Bytes of elements: 2 T H forward; backward T H read, V H written unless it accumulates, 2 H for every different
// token. Limit: memory. Backward a block belongs to a token and works only if this is the first occurrence of its
// vocabulary entry: it searches for the others, 256 at a time, and adds their rows in order, each thread its own
// columns. The search takes T^2 / 2 comparisons in all, of tokens that are in the cache. The bits are those of the host
// backend.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/embedding.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kEmbeddingThreads = 256, kEmbeddingWarps = kEmbeddingThreads / kWarpLanes;

template <int kWidth, typename T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    Embedding(T* y_TH, const T* table_VH, const std::int32_t* tokens, std::int64_t t, std::int64_t h) {
  ForGroups<kWidth>(t * h, [&](std::int64_t i) {
    float values[kWidth];
    LoadGroup(table_VH + tokens[i / h] * h + i % h, values);
    StoreGroup(y_TH + i, values);
  });
}

template <typename T>
__global__ void __launch_bounds__(kEmbeddingThreads) Zero(T* y, std::int64_t n) {
  ForGroups<1>(n, [&](std::int64_t i) { StoreRounded(y + i, 0.0f); });
}

// Finds which of the tokens from `first` on, one per thread, equal `token`: bit l of equal[w] for thread 32 w + l.
APTM_DEVICE void FindEqual(std::uint32_t* equal, const std::int32_t* tokens, std::int64_t first, std::int64_t end,
                           std::int32_t token) {
  const std::int64_t i = first + threadIdx.x;
  const unsigned lanes = __ballot_sync(kAllLanes, i < end && tokens[i] == token);
  __syncthreads();  // all threads are done with the previous result
  if (threadIdx.x % kWarpLanes == 0) equal[threadIdx.x / kWarpLanes] = lanes;
  __syncthreads();
}

template <int kWidth, typename Sum, typename T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    EmbeddingGrad(Sum* dtable_VH, const T* dy_TH, const std::int32_t* tokens, std::int64_t t, std::int64_t h) {
  APTM_SHARED(std::uint32_t, equal, kEmbeddingWarps);
  const std::int64_t mine = blockIdx.x;
  const std::int32_t token = tokens[mine];
  for (std::int64_t first = 0; first < mine; first += kEmbeddingThreads) {
    FindEqual(equal, tokens, first, mine, token);
    for (int warp = 0; warp < kEmbeddingWarps; ++warp) {
      if (equal[warp] != 0) return;
    }
  }
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * kEmbeddingThreads + threadIdx.x) * kWidth;
  const bool has_columns = column < h;
  float sum[kWidth] = {};
  if (has_columns) LoadGroup(dtable_VH + token * h + column, sum);
  for (std::int64_t first = mine; first < t; first += kEmbeddingThreads) {
    FindEqual(equal, tokens, first, t, token);
    for (int warp = 0; warp < kEmbeddingWarps && has_columns; ++warp) {
      for (std::uint32_t lanes = equal[warp]; lanes != 0; lanes &= lanes - 1) {
        float dy[kWidth];
        LoadGroup(dy_TH + (first + warp * kWarpLanes + __ffs(static_cast<int>(lanes)) - 1) * h + column, dy);
        for (int j = 0; j < kWidth; ++j) sum[j] += dy[j];
      }
    }
  }
  if (has_columns) StoreGroup(dtable_VH + token * h + column, sum);
}

}  // namespace

void LaunchEmbedding(const EmbeddingArgs& args, const LaunchContext& context) {
  WithVariant(args.y.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.t * args.h / kWidth, kEmbeddingThreads), context, &Embedding<kWidth, T>, args.y.as<T>(),
           args.table.as<T>(), args.tokens, args.t, args.h);
  });
}

void LaunchEmbeddingGrad(const EmbeddingGradArgs& args, const LaunchContext& context) {
  WithElements(args.dtable.dtype, [&](auto sum_element) {
    using Sum = decltype(sum_element);
    const std::int64_t n = args.v * args.h;
    if (!args.accumulate) Launch(Striding(n, kEmbeddingThreads), context, &Zero<Sum>, args.dtable.as<Sum>(), n);
    WithVariant(args.dy.dtype, args.h, [&](auto element, auto group) {
      using T = decltype(element);
      constexpr int kWidth = decltype(group)::kWidth, kColumns = kEmbeddingThreads * kWidth;
      const LaunchShape shape = {
          .grid = {.x = static_cast<unsigned>(args.t), .y = static_cast<unsigned>((args.h + kColumns - 1) / kColumns)},
          .block = {.x = kEmbeddingThreads}};
      Launch(shape, context, &EmbeddingGrad<kWidth, Sum, T>, args.dtable.as<Sum>(), args.dy.as<T>(), args.tokens,
             args.t, args.h);
    });
  });
}

}  // namespace angel_ptm::cuda
