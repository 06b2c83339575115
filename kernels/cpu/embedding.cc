#include "kernels/ops/embedding.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kEmbeddingTokenGrain = 64;
constexpr int64_t kLineBytes = 64;  // threads never write to the same cache line
constexpr int64_t kFillGrain = 1 << 14;

void Run(const EmbeddingArgs& args, const KernelContext& ctx) {
  const int64_t row_bytes = args.h * SizeOf(args.y.dtype);
  ParallelRanges(ctx.threads, args.t, kEmbeddingTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(args.y.as<std::byte>() + i * row_bytes, args.table.as<std::byte>() + args.tokens[i] * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  });
}

// Calls fn(begin, end) for shares of the columns. Threads share columns, not tokens, so that one thread sums every
// element in token order.
template <typename T, typename Fn>
void ForColumns(const EmbeddingGradArgs& args, const KernelContext& ctx, const Fn& fn) {
  if (!args.accumulate) {
    T* dtable = args.dtable.as<T>();
    ParallelRanges(ctx.threads, args.v * args.h, kFillGrain,
                   [&](int64_t begin, int64_t end, int) { std::fill(dtable + begin, dtable + end, T{}); });
  }
  ParallelRanges(ctx.threads, args.h, kLineBytes / int64_t{sizeof(T)},
                 [&](int64_t begin, int64_t end, int) { fn(begin, end); });
}

template <typename T>
void AddToTable(const EmbeddingGradArgs& args, const KernelContext& ctx) {
  ForColumns<float>(args, ctx, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < args.t; ++i) {
      const T* __restrict dy_H = args.dy.as<T>() + i * args.h;
      float* __restrict row_H = args.dtable.as<float>() + args.tokens[i] * args.h;
      for (int64_t j = begin; j < end; ++j) row_H[j] += ToFloat(dy_H[j]);
    }
  });
}

// The first occurrence of each vocabulary entry, and the next occurrence of each token; -1: none.
struct Occurrences {
  int32_t *first_V, *next_T;

  Occurrences(const EmbeddingGradArgs& args, const KernelContext& ctx)
      : first_V(reinterpret_cast<int32_t*>(ctx.workspace)), next_T(first_V + args.v) {
    std::fill(first_V, first_V + args.v, -1);
    for (int64_t i = args.t - 1; i >= 0; --i) {
      next_T[i] = first_V[args.tokens[i]];
      first_V[args.tokens[i]] = static_cast<int32_t>(i);
    }
  }
};

// Each sum is added to a bf16 table once, when it is complete: if the table were rounded after each token, the small
// contributions of a frequent token would be lost. Workspace: V + T int32.
void AddToBf16Table(const EmbeddingGradArgs& args, const KernelContext& ctx) {
  const Occurrences occurrences(args, ctx);
  ForColumns<BFloat16>(args, ctx, [&](int64_t begin, int64_t end) {
    float sum[kSumColumns];
    for (int64_t at = begin; at < end; at += kSumColumns) {
      const int64_t n = std::min(kSumColumns, end - at);
      for (int64_t token = 0; token < args.t; ++token) {
        if (occurrences.first_V[args.tokens[token]] != token) continue;
        BFloat16* __restrict row = args.dtable.as<BFloat16>() + args.tokens[token] * args.h + at;
        for (int64_t j = 0; j < n; ++j) sum[j] = ToFloat(row[j]);
        for (int64_t i = token; i >= 0; i = occurrences.next_T[i]) {
          const BFloat16* __restrict dy = args.dy.as<BFloat16>() + i * args.h + at;
          for (int64_t j = 0; j < n; ++j) sum[j] += ToFloat(dy[j]);
        }
        for (int64_t j = 0; j < n; ++j) row[j] = ToBFloat16(sum[j]);
      }
    }
  });
}

void Run(const EmbeddingGradArgs& args, const KernelContext& ctx) {
  if (args.dtable.dtype == DType::kBFloat16) return AddToBf16Table(args, ctx);
  WithElements(args.dy.dtype, [&](auto element) { AddToTable<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const EmbeddingArgs& args) {
  return Fp32OrBf16("embedding", {.same = {{"y", args.y}, {"table", args.table}}});
}

absl::Status CanRun(const EmbeddingGradArgs& args) {
  return Fp32OrBf16("embedding_grad", {.same = {{"dy", args.dy}}, .same_or_fp32 = {{"dtable", args.dtable}}});
}

int64_t WorkspaceBytes(const EmbeddingGradArgs& args, const BackendOptions&) {
  return args.dtable.dtype == DType::kBFloat16 ? (args.v + args.t) * int64_t{sizeof(int32_t)} : 0;
}

}  // namespace

Kernel<EmbeddingArgs> CpuEmbedding() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<EmbeddingGradArgs> CpuEmbeddingGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
