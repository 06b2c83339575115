#include "kernels/ops/cached_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

// Online softmax over chunks of keys. k and v point at row 0 of the cache for this (row, key-value head).
template <typename Dim>
void AttendHead(float* __restrict o_D, const float* q_D, const float* k, const float* v, int64_t row, int64_t keys,
                Dim d, float scale) {
  alignas(64) float p[kAttentionTile], sum_D[kHeadDimMax] = {};
  float maximum = -1e30f, sum = 0;
  for (int64_t first = 0; first < keys; first += kAttentionTile) {
    const int64_t n = std::min(kAttentionTile, keys - first);
    const float previous = maximum;
    for (int64_t i = 0; i < n; ++i) p[i] = SumOfProducts(d, q_D, k + (first + i) * row) * scale;
    for (int64_t i = 0; i < n; ++i) maximum = p[i] > maximum ? p[i] : maximum;
    const float factor = Exp(previous - maximum);
    for (int64_t i = 0; i < n; ++i) p[i] = Exp(p[i] - maximum);
    sum = sum * factor + SumOfProducts(n, p);
    for (int64_t j = 0; j < d; ++j) sum_D[j] *= factor;
    MultiplyTiles(
        {.m = 1, .n = d, .k = n, .a = p, .b = v + first * row, .ldb = row, .c = sum_D, .ldc = d, .accumulate = true});
  }
  for (int64_t j = 0; j < d; ++j) o_D[j] = sum_D[j] / sum;
}

// The same for bf16: every chunk is widened, everything else is fp32, and o is rounded.
void AttendHead(BFloat16* o_D, const BFloat16* q_D, const BFloat16* k, const BFloat16* v, int64_t row, int64_t keys,
                int64_t d, float scale) {
  alignas(64) float q[kHeadDimMax], rows[kAttentionTile * kHeadDimMax], p[kAttentionTile], sum_D[kHeadDimMax] = {};
  WidenRows(q, q_D, d, 1, d);
  float maximum = -1e30f, sum = 0;
  for (int64_t first = 0; first < keys; first += kAttentionTile) {
    const int64_t n = std::min(kAttentionTile, keys - first);
    const float previous = maximum;
    WidenRows(rows, k + first * row, row, n, d);
    for (int64_t i = 0; i < n; ++i) p[i] = SumOfProducts(d, q, rows + i * d) * scale;
    for (int64_t i = 0; i < n; ++i) maximum = p[i] > maximum ? p[i] : maximum;
    const float factor = Exp(previous - maximum);
    for (int64_t i = 0; i < n; ++i) p[i] = Exp(p[i] - maximum);
    sum = sum * factor + SumOfProducts(n, p);
    for (int64_t j = 0; j < d; ++j) sum_D[j] *= factor;
    WidenRows(rows, v + first * row, row, n, d);
    MultiplyTiles({.m = 1, .n = d, .k = n, .a = p, .b = rows, .ldb = d, .c = sum_D, .ldc = d, .accumulate = true});
  }
  for (int64_t j = 0; j < d; ++j) o_D[j] = ToBFloat16(sum_D[j] / sum);
}

template <typename T>
void Decode(const CachedAttentionArgs& args, const KernelContext& ctx) {
  const int64_t d = args.d, kv_heads = args.kv_heads, group = args.q_heads / kv_heads, row = kv_heads * d;
  const int64_t position = *args.position;
  ParallelFor(ctx.threads, args.b * kv_heads, [&](int64_t i) {
    const int64_t b = i / kv_heads, kv_head = i % kv_heads;
    T* k = args.k_cache.as<T>() + b * args.s_max * row + kv_head * d;
    T* v = args.v_cache.as<T>() + b * args.s_max * row + kv_head * d;
    std::copy_n(args.k.as<T>() + b * row + kv_head * d, d, k + position * row);
    std::copy_n(args.v.as<T>() + b * args.v_stride + kv_head * d, d, v + position * row);
    for (int64_t j = 0; j < group; ++j) {
      const int64_t head = b * args.q_heads + kv_head * group + j;
      WithHeadDim(d, [&](auto dim) {
        AttendHead(args.o.as<T>() + head * d, args.q.as<T>() + head * d, k, v, row, position + 1, dim, args.scale);
      });
    }
  });
}

void Run(const CachedAttentionArgs& args, const KernelContext& ctx) {
  WithElements(args.q.dtype, [&](auto element) { Decode<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const CachedAttentionArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("cached_attention", {.same = {{"q", args.q},
                                                           {"k", args.k},
                                                           {"v", args.v},
                                                           {"o", args.o},
                                                           {"k_cache", args.k_cache},
                                                           {"v_cache", args.v_cache}}}));
  RETURN_IF_ERROR(BelowInt32("cached_attention", {args.b, args.s_max}));
  return HeadsSupported("cached_attention", args.q_heads, args.kv_heads, args.d);
}

}  // namespace

Kernel<CachedAttentionArgs> CpuCachedAttention() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
