#include "kernels/ops/embedding.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTokenGrain = 64;
constexpr int64_t kColumnGrain = 16;  // one cache line: threads never write to the same line
constexpr int64_t kFillGrain = 1 << 14;

void Run(const EmbeddingArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const size_t row_bytes = static_cast<size_t>(h) * sizeof(float);
  ParallelRanges(ctx.threads, args.t, kTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(args.y.as<float>() + i * h, args.table.as<float>() + args.tokens[i] * h, row_bytes);
    }
  });
}

void Run(const EmbeddingGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  float* dtable_VH = args.dtable.as<float>();
  if (!args.accumulate) {
    ParallelRanges(ctx.threads, args.v * h, kFillGrain,
                   [&](int64_t begin, int64_t end, int) { std::fill(dtable_VH + begin, dtable_VH + end, 0.0f); });
  }
  // Threads share the columns, not the tokens: every element is a sum in token order made by one thread.
  ParallelRanges(ctx.threads, h, kColumnGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < args.t; ++i) {
      const float* __restrict dy_H = args.dy.as<float>() + i * h;
      float* __restrict row_H = dtable_VH + args.tokens[i] * h;
      for (int64_t j = begin; j < end; ++j) row_H[j] += dy_H[j];
    }
  });
}

absl::Status CanRun(const EmbeddingArgs& args) { return Fp32Only("embedding", {args.y.dtype, args.table.dtype}); }

absl::Status CanRun(const EmbeddingGradArgs& args) {
  return Fp32Only("embedding_grad", {args.dtable.dtype, args.dy.dtype});
}

}  // namespace

Kernel<EmbeddingArgs> CpuEmbedding() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<EmbeddingGradArgs> CpuEmbeddingGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
