#include "kernels/ops/relative_attention.h"

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

// Scratch of one thread, in fp32 elements: keys transposed [D,S] and values [S,D] of a head, queries and results
// [tile,D], scores [tile,S], and the bias by distance [2S].
int64_t ScratchElements(const RelativeAttentionArgs& args) {
  const int64_t tile = kAttentionTile;
  return 2 * args.s * args.d + 2 * tile * args.d + tile * args.s + 2 * args.s;
}

// Loads [rows,D] of the head as fp32; `which`: 0 queries, 1 keys, 2 values.
template <typename T>
void Load(float* to, const RelativeAttentionArgs& args, int64_t token, int64_t rows, int64_t head, int64_t which) {
  const int64_t d = args.d, width = 3 * args.heads * d;
  const T* from = args.qkv.as<T>() + token * width + (which * args.heads + head) * d;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < d; ++i) to[row * d + i] = ToFloat(from[row * width + i]);
  }
}

// Turns the scores of a query into weights with sum 1.
void Softmax(float* scores_K, const float* bias_K, int64_t keys) {
  for (int64_t j = 0; j < keys; ++j) scores_K[j] += bias_K[j];
  const float maximum = *std::max_element(scores_K, scores_K + keys);
  for (int64_t j = 0; j < keys; ++j) scores_K[j] = Exp(scores_K[j] - maximum);
  const float factor = 1.0f / SumOfProducts(keys, scores_K);
  for (int64_t j = 0; j < keys; ++j) scores_K[j] *= factor;
}

template <typename T>
void AttendHead(const RelativeAttentionArgs& args, int64_t b, int64_t head, float* scratch) {
  const int64_t s = args.s, d = args.d, keys = args.key_counts[b], first = b * s;
  float* const rows_KD = scratch;
  float* const keys_DK = rows_KD + s * d;
  float* const queries = keys_DK + s * d;
  float* const results = queries + kAttentionTile * d;
  float* const scores = results + kAttentionTile * d;
  float* const bias = scores + kAttentionTile * s;
  const T* const table = args.table.as<T>() + head;
  for (int64_t i = 0; i < 2 * s - 1; ++i) bias[i] = ToFloat(table[args.places[i] * args.heads]);
  Load<T>(rows_KD, args, first, keys, head, 1);
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t i = 0; i < d; ++i) keys_DK[i * keys + j] = rows_KD[j * d + i];
  }
  Load<T>(rows_KD, args, first, keys, head, 2);
  for (int64_t begin = 0; begin < s; begin += kAttentionTile) {
    const int64_t n = std::min(kAttentionTile, s - begin);
    Load<T>(queries, args, first + begin, n, head, 0);
    MultiplyTiles(
        {.m = n, .n = keys, .k = d, .a = queries, .a_row = d, .b = keys_DK, .ldb = keys, .c = scores, .ldc = keys});
    for (int64_t i = 0; i < n; ++i) Softmax(scores + i * keys, bias + s - 1 - (begin + i), keys);
    MultiplyTiles(
        {.m = n, .n = d, .k = keys, .a = scores, .a_row = keys, .b = rows_KD, .ldb = d, .c = results, .ldc = d});
    for (int64_t i = 0; i < n; ++i) {
      T* const o_D = args.o.as<T>() + ((first + begin + i) * args.heads + head) * d;
      for (int64_t j = 0; j < d; ++j) o_D[j] = Rounded<T>(results[i * d + j]);
    }
  }
}

// Workspace: ScratchElements fp32 per thread.
void Run(const RelativeAttentionArgs& args, const KernelContext& ctx) {
  float* const scratch = reinterpret_cast<float*>(ctx.workspace);
  ParallelRanges(ctx.threads, args.b * args.heads, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      WithElements(args.o.dtype, [&](auto element) {
        AttendHead<decltype(element)>(args, i / args.heads, i % args.heads, scratch + thread * ScratchElements(args));
      });
    }
  });
}

absl::Status CanRun(const RelativeAttentionArgs& args) {
  RETURN_IF_ERROR(
      Fp32OrBf16("relative_attention", {.same = {{"o", args.o}, {"qkv", args.qkv}, {"table", args.table}}}));
  RETURN_IF_ERROR(BelowInt32("relative_attention", {args.b, args.s, args.p}));
  return HeadsSupported("relative_attention", args.heads, args.heads, args.d);
}

int64_t WorkspaceBytes(const RelativeAttentionArgs& args, const BackendOptions& options) {
  return FloatBytes(options.threads * ScratchElements(args));
}

}  // namespace

Kernel<RelativeAttentionArgs> CpuRelativeAttention() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
