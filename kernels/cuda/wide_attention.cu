// Full attention (kernels/ops/attention.h) of heads too wide for the tiles of attention.cu, in a plain implementation:
// for pooling, whose single query reads a few hundred keys. Operands in bf16 or fp32, sums in fp32.
//
// A block computes one query of one head: the weights of all its keys go through shared memory, then a thread computes
// a column of o. Backward a block computes dq of one query in the same way; in another launch a block computes dk and
// dv of one key, adding over the queries of its group in order. Bytes: all keys and values once per query, or less with
// L2; FLOPs: 4 D per query and key forward, 12 D backward. Limit: latency. One block computes a query's sums, in an
// order that depends on the shape alone.
#include <cmath>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kWideAttentionThreads = 256;  // at least a head's columns

template <typename T>
struct Wide {
  const T *q, *k, *v;
  const std::int32_t* key_counts;
  std::int64_t keys, s, q_heads, kv_heads, d, v_stride;
  float scale;
};
template <typename T, typename Args>
Wide<T> WideOf(const Args& args) {
  return {args.q.template as<T>(),
          args.k.template as<T>(),
          args.v.template as<T>(),
          args.key_counts,
          args.keys,
          args.s,
          args.q_heads,
          args.kv_heads,
          args.d,
          args.v_stride,
          args.scale};
}

// The query and head of a block, and where its keys and values begin.
template <typename T>
struct WideQuery {
  std::int64_t q, row, count;  // q: its first element
  const T *k, *v;
  std::int64_t k_stride, lse;

  APTM_DEVICE WideQuery(const Wide<T>& w, std::int64_t token, std::int64_t head, std::int64_t tokens)
      : q((token * w.q_heads + head) * w.d),
        row(token / w.s),
        count(w.key_counts == nullptr ? w.keys : w.key_counts[row]),
        k_stride(w.kv_heads * w.d),
        lse(head * tokens + token) {
    const std::int64_t column = head / (w.q_heads / w.kv_heads) * w.d;
    k = w.k + row * w.keys * k_stride + column;
    v = w.v + row * w.keys * w.v_stride + column;
  }
};

template <typename T>
APTM_DEVICE float Dot(const T* a, const T* b, std::int64_t d) {
  float sum = 0;
  for (std::int64_t i = 0; i < d; ++i) sum += Widened(a[i]) * Widened(b[i]);
  return sum;
}

APTM_DEVICE float WideBlockMax(float x) {
  APTM_SHARED(float, maxima, kWideAttentionThreads / kWarpLanes);
  for (int by = kWarpLanes / 2; by > 0; by /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, x, by);
    x = other > x ? other : x;
  }
  if (threadIdx.x % kWarpLanes == 0) maxima[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  for (int i = 0; i < kWideAttentionThreads / kWarpLanes; ++i) x = maxima[i] > x ? maxima[i] : x;
  return x;
}

template <typename T>
__global__ void __launch_bounds__(kWideAttentionThreads) WideAttention(T* o, float* lse, Wide<T> w) {
  APTM_DYNAMIC_SHARED(dynamic);
  float* const weights = reinterpret_cast<float*>(dynamic);
  const WideQuery<T> query(w, blockIdx.x, blockIdx.y, gridDim.x);
  float maximum = -INFINITY;
  for (std::int64_t j = threadIdx.x; j < query.count; j += kWideAttentionThreads) {
    weights[j] = Dot(w.q + query.q, query.k + j * query.k_stride, w.d) * w.scale;
    maximum = weights[j] > maximum ? weights[j] : maximum;
  }
  maximum = WideBlockMax(maximum);
  float sum = 0;
  for (std::int64_t j = threadIdx.x; j < query.count; j += kWideAttentionThreads) {
    const float weight = expf(weights[j] - maximum);
    sum += weight;
    weights[j] = AsStored(o, weight);
  }
  sum = BlockSum<kWideAttentionThreads>(sum);
  if (threadIdx.x == 0) lse[query.lse] = maximum + logf(sum);
  __syncthreads();  // all weights are stored
  if (threadIdx.x >= w.d) return;
  float value = 0;
  for (std::int64_t j = 0; j < query.count; ++j) value += weights[j] * Widened(query.v[j * w.v_stride + threadIdx.x]);
  StoreRounded(o + query.q + threadIdx.x, value / sum);
}

// For a query and a key: the weight and the gradient of the score.
struct WidePair {
  float p, ds;
};
APTM_DEVICE WidePair PairOf(float score, float dp, float delta, float scale, float lse) {
  const float p = expf(score * scale - lse);
  return {p, p * (dp - delta)};
}

template <typename T>
__global__ void __launch_bounds__(kWideAttentionThreads)
    WideAttentionQueryGrad(T* dq, const T* do_, const T* o, const float* lse, Wide<T> w) {
  APTM_DYNAMIC_SHARED(dynamic);
  float* const slopes = reinterpret_cast<float*>(dynamic);
  const WideQuery<T> query(w, blockIdx.x, blockIdx.y, gridDim.x);
  const float delta = Dot(do_ + query.q, o + query.q, w.d);
  for (std::int64_t j = threadIdx.x; j < query.count; j += kWideAttentionThreads) {
    const float score = Dot(w.q + query.q, query.k + j * query.k_stride, w.d);
    const float dp = Dot(do_ + query.q, query.v + j * w.v_stride, w.d);
    slopes[j] = AsStored(dq, PairOf(score, dp, delta, w.scale, lse[query.lse]).ds);
  }
  __syncthreads();  // all slopes are stored
  if (threadIdx.x >= w.d) return;
  float value = 0;
  for (std::int64_t j = 0; j < query.count; ++j)
    value += slopes[j] * Widened(query.k[j * query.k_stride + threadIdx.x]);
  StoreRounded(dq + query.q + threadIdx.x, value * w.scale);
}

// blockIdx.x: the token of the key; blockIdx.y: its head. Threads beyond the columns add zeros to the block's sums.
template <typename T>
__global__ void __launch_bounds__(kWideAttentionThreads)
    WideAttentionKeyGrad(T* dk, T* dv, const T* do_, const T* o, const float* lse, Wide<T> w, std::int64_t tokens,
                         std::int64_t dv_stride) {
  const std::int64_t row = blockIdx.x / w.keys, j = blockIdx.x % w.keys, group = w.q_heads / w.kv_heads;
  const std::int64_t at = (blockIdx.x * w.kv_heads + blockIdx.y) * w.d + threadIdx.x;
  const std::int64_t at_v = blockIdx.x * w.v_stride + blockIdx.y * w.d + threadIdx.x;
  const bool has_column = threadIdx.x < w.d, seen = w.key_counts == nullptr || j < w.key_counts[row];
  const float k = has_column && seen ? Widened(w.k[at]) : 0.0f, v = has_column && seen ? Widened(w.v[at_v]) : 0.0f;
  float k_sum = 0, v_sum = 0;
  for (std::int64_t i = 0; seen && i < group * w.s; ++i) {
    const WideQuery<T> query(w, row * w.s + i % w.s, blockIdx.y * group + i / w.s, tokens);
    const std::int64_t column = query.q + threadIdx.x;
    const float q = has_column ? Widened(w.q[column]) : 0.0f, slope = has_column ? Widened(do_[column]) : 0.0f;
    const float score = BlockSum<kWideAttentionThreads>(q * k), dp = BlockSum<kWideAttentionThreads>(slope * v);
    const float delta = BlockSum<kWideAttentionThreads>(has_column ? slope * Widened(o[column]) : 0.0f);
    const WidePair pair = PairOf(score, dp, delta, w.scale, lse[query.lse]);
    k_sum += AsStored(dk, pair.ds) * q;
    v_sum += AsStored(dv, pair.p) * slope;
  }
  if (!has_column) return;
  StoreRounded(dk + at, k_sum * w.scale);
  StoreRounded(dv + blockIdx.x * dv_stride + blockIdx.y * w.d + threadIdx.x, v_sum);
}

template <typename Args>
LaunchShape ForQueries(const Args& args) {
  return {.grid = {.x = static_cast<unsigned>(args.b * args.s), .y = static_cast<unsigned>(args.q_heads)},
          .block = {.x = kWideAttentionThreads},
          .shared_bytes = static_cast<std::size_t>(args.keys) * sizeof(float)};
}

}  // namespace

void LaunchWideAttention(const AttentionArgs& args, const LaunchContext& context) {
  WithElements(args.q.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(ForQueries(args), context, &WideAttention<T>, args.o.as<T>(), args.lse.as<float>(), WideOf<T>(args));
  });
}

void LaunchWideAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context) {
  WithElements(args.q.dtype, [&](auto element) {
    using T = decltype(element);
    const T* const do_ = args.do_.as<T>();
    const T* const o = args.o.as<T>();
    const float* const lse = args.lse.as<float>();
    Launch(ForQueries(args), context, &WideAttentionQueryGrad<T>, args.dq.as<T>(), do_, o, lse, WideOf<T>(args));
    const LaunchShape keys = {
        .grid = {.x = static_cast<unsigned>(args.b * args.keys), .y = static_cast<unsigned>(args.kv_heads)},
        .block = {.x = kWideAttentionThreads}};
    Launch(keys, context, &WideAttentionKeyGrad<T>, args.dk.as<T>(), args.dv.as<T>(), do_, o, lse, WideOf<T>(args),
           args.b * args.s, args.dv_stride);
  });
}

}  // namespace angel_ptm::cuda
