#include "kernels/ops/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLinearCrossEntropyTokenGrain = 4, kRoundGrain = 1024;
// Vocabulary entries per product of dx with bf16 operands: few enough that on AMX 256 columns of weights are packed at
// a time.
constexpr int64_t kVocabularySlice = 2048;

// Multiplies the fp32 row [v] by `scale`, subtracts 1 at `target`, and writes the result as elements of T from the
// row's first byte on. The writes never overtake the reads.
template <typename T>
void ScaleInPlace(float* row_V, int64_t v, float scale, int32_t target) {
  std::byte* const to = reinterpret_cast<std::byte*>(row_V);
  const T at_target = Rounded<T>(row_V[target] * scale - 1.0f);
  const auto scale_lanes = [&](int64_t i, auto lanes) {
    Vector x;
    alignas(64) T rounded[kVectorLanes];
    LoadLanes(x, row_V, i, v);
    StoreVector(rounded, x * scale);
    std::memcpy(to + i * sizeof(T), rounded, lanes * sizeof(T));
  };
  int64_t i = 0;
  // A copy of constant size is a single store; any other is a loop that takes as long as the arithmetic.
  for (; i + kVectorLanes <= v; i += kVectorLanes) scale_lanes(i, std::integral_constant<int64_t, kVectorLanes>());
  if (i < v) scale_lanes(i, v - i);
  std::memcpy(to + target * sizeof(T), &at_target, sizeof(T));
}

// Returns logsumexp(logits) - logits[target]. With want_gradient, logits become softmax(logits) - onehot(target) as
// elements of T, from the row's first byte on. A negative target has no loss and no gradient.
template <typename T>
float CrossEntropyInPlace(float* __restrict logits_V, int64_t v, int32_t target, bool want_gradient) {
  if (target < 0) {
    if (want_gradient) std::memset(logits_V, 0, v * sizeof(T));
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
  ScaleInPlace<T>(logits_V, v, 1.0f / sum, target);
  return std::log(sum) + (highest - target_logit);
}

// Computes the losses of tokens [first, first + c). Their logits become gradients of the logits if gradients are
// wanted.
template <typename T>
void LossesInPlace(const LinearCrossEntropyArgs& args, int threads, int64_t first, int64_t c, float* logits_CV) {
  const bool want_gradient = args.dx || args.dweight;
  ParallelRanges(threads, c, kLinearCrossEntropyTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      args.token_loss.as<float>()[first + i] =
          CrossEntropyInPlace<T>(logits_CV + i * args.v, args.v, args.targets[first + i], want_gradient);
    }
  });
}

void RunFp32(const LinearCrossEntropyArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h, v = args.v;
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
    LossesInPlace<float>(args, ctx.threads, first, c, logits_CV);
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

// Workspace of the bf16 variant: a chunk's logits, its dx in fp32, and the workspace of its products.
struct Bf16Workspace {
  int64_t logits_bytes, dx_bytes, products_bytes;

  Bf16Workspace(const LinearCrossEntropyArgs& args, int threads) {
    const int64_t c = std::min(args.chunk_tokens, args.t), h = args.h, v = args.v;
    logits_bytes = Aligned(FloatBytes(c * v));
    dx_bytes = Aligned(FloatBytes(c * h));
    products_bytes = std::max({Bf16ProductWorkspace(c, v, h, threads),
                               Bf16ProductWorkspace(c, h, std::min(v, kVocabularySlice), threads),
                               Bf16ProductWorkspace(v, h, c, threads)});
  }
  int64_t bytes() const { return logits_bytes + dx_bytes + products_bytes; }

 private:
  static int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }
};

// Computes dx of a chunk: in fp32, over slices of the vocabulary so that the packed weights stay small, and rounded at
// the end.
void InputGradient(const LinearCrossEntropyArgs& args, int threads, int64_t first, int64_t c,
                   const BFloat16* dlogits_CV2, float* dx_CH, std::byte* workspace) {
  const int64_t h = args.h, v = args.v;
  for (int64_t i = 0; i < v; i += kVocabularySlice) {
    MultiplyBf16(threads,
                 {.m = c,
                  .n = h,
                  .k = std::min(kVocabularySlice, v - i),
                  .a = dlogits_CV2 + i,
                  .lda = 2 * v,
                  .b = args.weight.as<BFloat16>() + i * h,
                  .ldb = h,
                  .c = {dx_CH, DType::kFloat32},
                  .ldc = h,
                  .accumulate = i > 0},
                 workspace);
  }
  WithElements(args.dx.dtype, [&](auto element) {
    auto* const dx = args.dx.as<decltype(element)>() + first * h;
    ParallelRanges(threads, c * h, kRoundGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) dx[i] = Rounded<decltype(element)>(dx_CH[i]);
    });
  });
}

void RunBf16(const LinearCrossEntropyArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h, v = args.v;
  const Bf16Workspace sizes(args, ctx.threads);
  float* const logits_CV = reinterpret_cast<float*>(ctx.workspace);
  const BFloat16* const dlogits_CV2 = reinterpret_cast<const BFloat16*>(ctx.workspace);
  float* const dx_CH = reinterpret_cast<float*>(ctx.workspace + sizes.logits_bytes);
  std::byte* const workspace = ctx.workspace + sizes.logits_bytes + sizes.dx_bytes;
  for (int64_t first = 0; first < args.t; first += args.chunk_tokens) {
    const int64_t c = std::min(args.chunk_tokens, args.t - first);
    const BFloat16* x_CH = args.x.as<BFloat16>() + first * h;
    MultiplyBf16(ctx.threads,
                 {.m = c,
                  .n = v,
                  .k = h,
                  .a = x_CH,
                  .lda = h,
                  .b = args.weight.as<BFloat16>(),
                  .ldb = h,
                  .trans_b = true,
                  .c = {logits_CV, DType::kFloat32},
                  .ldc = v},
                 workspace);
    LossesInPlace<BFloat16>(args, ctx.threads, first, c, logits_CV);
    if (!args.dx && !args.dweight) continue;
    if (args.dx) InputGradient(args, ctx.threads, first, c, dlogits_CV2, dx_CH, workspace);
    if (!args.dweight) continue;
    MultiplyBf16(ctx.threads,
                 {.m = v,
                  .n = h,
                  .k = c,
                  .a = dlogits_CV2,
                  .lda = 2 * v,
                  .trans_a = true,
                  .b = x_CH,
                  .ldb = h,
                  .c = args.dweight,
                  .ldc = h,
                  .accumulate = args.accumulate_dweight || first > 0},
                 workspace);
  }
}

bool IsBf16(const LinearCrossEntropyArgs& args) { return args.x.dtype == DType::kBFloat16; }

void Run(const LinearCrossEntropyArgs& args, const KernelContext& ctx) {
  return IsBf16(args) ? RunBf16(args, ctx) : RunFp32(args, ctx);
}

int64_t WorkspaceBytes(const LinearCrossEntropyArgs& args, const BackendOptions& options) {
  if (IsBf16(args)) return Bf16Workspace(args, options.threads).bytes();
  return FloatBytes(std::min(args.chunk_tokens, args.t) * args.v);
}

absl::Status CanRun(const LinearCrossEntropyArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("linear_cross_entropy", {.same = {{"x", args.x}, {"weight", args.weight}},
                                                      .same_or_fp32 = {{"dx", args.dx}, {"dweight", args.dweight}},
                                                      .fp32 = {{"token_loss", args.token_loss}}}));
  return BelowInt32("linear_cross_entropy", {args.t, args.h, args.v, args.chunk_tokens});
}

}  // namespace

Kernel<LinearCrossEntropyArgs> CpuLinearCrossEntropy() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
