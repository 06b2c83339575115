#include "kernels/ops/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTokenGrain = 4;

// Returns logsumexp(logits) - logits[target]. With want_gradient, logits become softmax(logits) - onehot(target).
// A negative target has no loss and no gradient.
float CrossEntropyInPlace(float* __restrict logits_V, int64_t v, int32_t target, bool want_gradient) {
  if (target < 0) {
    if (want_gradient) std::fill_n(logits_V, v, 0.0f);
    return 0;
  }
  const float target_logit = logits_V[target];
  const float highest = MaxOf(logits_V, v);
  float sum = 0;
  if (!want_gradient) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < v; ++i) sum += Exp(logits_V[i] - highest);
    return std::log(sum) + (highest - target_logit);
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < v; ++i) {
    logits_V[i] = Exp(logits_V[i] - highest);
    sum += logits_V[i];
  }
  const float scale = 1.0f / sum;
  for (int64_t i = 0; i < v; ++i) logits_V[i] *= scale;
  logits_V[target] -= 1.0f;
  return std::log(sum) + (highest - target_logit);
}

void Run(const LinearCrossEntropyArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h, v = args.v;
  const bool want_gradient = args.dx || args.dweight;
  const float* weight_VH = args.weight.as<float>();
  float* logits_CV = reinterpret_cast<float*>(ctx.workspace);
  for (int64_t first = 0; first < args.t; first += args.chunk_tokens) {
    const int64_t c = std::min(args.chunk_tokens, args.t - first);
    const float* x_CH = args.x.as<float>() + first * h;
    ParallelGemm(ctx.threads, {.m = c,
                               .n = v,
                               .k = h,
                               .a = x_CH,
                               .lda = h,
                               .b = weight_VH,
                               .ldb = h,
                               .trans_b = true,
                               .c = logits_CV,
                               .ldc = v});
    ParallelRanges(ctx.threads, c, kTokenGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        args.token_loss.as<float>()[first + i] =
            CrossEntropyInPlace(logits_CV + i * v, v, args.targets[first + i], want_gradient);
      }
    });
    if (args.dx) {
      ParallelGemm(ctx.threads, {.m = c,
                                 .n = h,
                                 .k = v,
                                 .a = logits_CV,
                                 .lda = v,
                                 .b = weight_VH,
                                 .ldb = h,
                                 .c = args.dx.as<float>() + first * h,
                                 .ldc = h});
    }
    if (!args.dweight) continue;
    ParallelGemm(ctx.threads, {.m = v,
                               .n = h,
                               .k = c,
                               .a = logits_CV,
                               .lda = v,
                               .trans_a = true,
                               .b = x_CH,
                               .ldb = h,
                               .c = args.dweight.as<float>(),
                               .ldc = h,
                               .accumulate = args.accumulate_dweight || first > 0});
  }
}

int64_t WorkspaceBytes(const LinearCrossEntropyArgs& args, const BackendOptions&) {
  return FloatBytes(std::min(args.chunk_tokens, args.t) * args.v);
}

absl::Status CanRun(const LinearCrossEntropyArgs& args) {
  RETURN_IF_ERROR(Fp32Only("linear_cross_entropy", {args.x.dtype, args.weight.dtype}));
  return BelowInt32("linear_cross_entropy", {args.t, args.h, args.v, args.chunk_tokens});
}

}  // namespace

Kernel<LinearCrossEntropyArgs> CpuLinearCrossEntropy() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
