#include "kernels/ops/router.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRouterTokenGrain = 16;
// bf16 matrices are widened to fp32 for the matrix library, so many tokens at a time; the sum of a gradient, so many
// columns at a time.
constexpr int64_t kWidenedTokens = 64, kColumnBlock = 128;

void SoftmaxInPlace(float* __restrict p_E, int64_t e) {
  const float highest = MaxOf(p_E, e);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < e; ++i) {
    p_E[i] = Exp(p_E[i] - highest);
    sum += p_E[i];
  }
  for (int64_t i = 0; i < e; ++i) p_E[i] /= sum;
}

// Selection by k passes; with non-finite probabilities the choice is still k different experts.
void SelectTopK(const float* p_E, int64_t e, int64_t k, int32_t* experts_K, float* weights_K) {
  float sum = 0;
  for (int64_t choice = 0; choice < k; ++choice) {
    int32_t best = -1;
    for (int32_t i = 0; i < e; ++i) {
      if (best >= 0 && !(p_E[i] > p_E[best])) continue;
      if (std::find(experts_K, experts_K + choice, i) == experts_K + choice) best = i;
    }
    experts_K[choice] = best;
    weights_K[choice] = p_E[best];
    sum += p_E[best];
  }
  for (int64_t choice = 0; choice < k; ++choice) weights_K[choice] /= sum;
}

// to[rows, columns] = from, whose rows are `stride` elements apart.
void Widen(float* __restrict to, const BFloat16* __restrict from, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < columns; ++i) to[r * columns + i] = ToFloat(from[r * stride + i]);
  }
}

void WidenGate(float* gate_EH, const ConstOperand& gate, int64_t e, int64_t h, int threads) {
  ParallelFor(threads, e, [&](int64_t j) { Widen(gate_EH + j * h, gate.as<BFloat16>() + j * h, 1, h, h); });
}

// Workspace: the widened gate, E * H fp32, then kWidenedTokens * H fp32 per thread.
void Bf16Logits(const RouterArgs& args, float* logits_TE, const KernelContext& ctx) {
  const int64_t h = args.h, e = args.e;
  float* const gate_EH = reinterpret_cast<float*>(ctx.workspace);
  WidenGate(gate_EH, args.gate, e, h, ctx.threads);
  ParallelRanges(ctx.threads, args.t, kWidenedTokens, [&](int64_t begin, int64_t end, int part) {
    float* const x_BH = gate_EH + (e + part * kWidenedTokens) * h;
    for (int64_t i = begin; i < end; i += kWidenedTokens) {
      const int64_t rows = std::min(kWidenedTokens, end - i);
      Widen(x_BH, args.x.as<BFloat16>() + i * h, rows, h, h);
      SerialGemm({.m = rows,
                  .n = e,
                  .k = h,
                  .a = x_BH,
                  .lda = h,
                  .b = gate_EH,
                  .ldb = h,
                  .trans_b = true,
                  .c = logits_TE + i * e,
                  .ldc = e});
    }
  });
}

void Fp32Logits(const RouterArgs& args, float* logits_TE, const KernelContext& ctx) {
  ParallelGemm(ctx.threads, {.m = args.t,
                             .n = args.e,
                             .k = args.h,
                             .a = args.x.as<float>(),
                             .lda = args.h,
                             .b = args.gate.as<float>(),
                             .ldb = args.h,
                             .trans_b = true,
                             .c = logits_TE,
                             .ldc = args.e});
}

void Run(const RouterArgs& args, const KernelContext& ctx) {
  const int64_t t = args.t, e = args.e, k = args.k;
  float* probs_TE = args.probs.as<float>();
  (args.x.dtype == DType::kBFloat16 ? &Bf16Logits : &Fp32Logits)(args, probs_TE, ctx);
  ParallelRanges(ctx.threads, t, kRouterTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      SoftmaxInPlace(probs_TE + i * e, e);
      SelectTopK(probs_TE + i * e, e, k, args.experts + i * k, args.weights.as<float>() + i * k);
    }
  });
  std::fill(args.counts, args.counts + e, 0);
  for (int64_t pair = 0; pair < t * k; ++pair) ++args.counts[args.experts[pair]];
  if (args.loads == nullptr) return;
  for (int64_t i = 0; i < e; ++i) args.loads[i] += args.counts[i];
}

// The gradient of the loss with respect to the logits.
void LogitsGrad(const RouterGradArgs& args, float* dlogits_TE, const KernelContext& ctx) {
  const int64_t t = args.t, e = args.e, k = args.k;
  const double tokens = static_cast<double>(t);
  // d(aux term)/d(probs_te) is the same for all tokens: aux_scale * counts_e.
  const float aux_scale = static_cast<float>(static_cast<double>(args.aux_coefficient) * *args.target_count *
                                             static_cast<double>(e) / (tokens * static_cast<double>(k) * tokens));
  ParallelRanges(ctx.threads, t, kRouterTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* __restrict p_E = args.probs.as<float>() + i * e;
      const float* weights_K = args.weights.as<float>() + i * k;
      const float* dweights_K = args.dweights.as<float>() + i * k;
      const int32_t* experts_K = args.experts + i * k;
      float* __restrict d_E = dlogits_TE + i * e;
      for (int64_t j = 0; j < e; ++j) d_E[j] = aux_scale * static_cast<float>(args.counts[j]);
      // weights_j = p_j / s, where s is the sum over the chosen: dp_j = (dweights_j - sum_c dweights_c weights_c) / s.
      float chosen = 0, mean = 0;
      for (int64_t c = 0; c < k; ++c) {
        chosen += p_E[experts_K[c]];
        mean += dweights_K[c] * weights_K[c];
      }
      for (int64_t c = 0; c < k; ++c) d_E[experts_K[c]] += (dweights_K[c] - mean) / chosen;
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t j = 0; j < e; ++j) dot += p_E[j] * d_E[j];
      for (int64_t j = 0; j < e; ++j) d_E[j] = p_E[j] * (d_E[j] - dot);
    }
  });
}

void Fp32Grad(const RouterGradArgs& args, const float* dlogits_TE, const KernelContext& ctx) {
  const int64_t t = args.t, h = args.h, e = args.e;
  if (args.dx) {
    ParallelGemm(ctx.threads, {.m = t,
                               .n = h,
                               .k = e,
                               .a = dlogits_TE,
                               .lda = e,
                               .b = args.gate.as<float>(),
                               .ldb = h,
                               .c = args.dx.as<float>(),
                               .ldc = h,
                               .accumulate = args.accumulate_dx});
  }
  if (!args.dgate) return;
  ParallelGemm(ctx.threads, {.m = e,
                             .n = h,
                             .k = t,
                             .a = dlogits_TE,
                             .lda = e,
                             .trans_a = true,
                             .b = args.x.as<float>(),
                             .ldb = h,
                             .c = args.dgate.as<float>(),
                             .ldc = h,
                             .accumulate = args.accumulate_dgate});
}

// y (+)= from[rows, columns], rounded once; y's rows are `stride` elements apart.
template <typename T>
void RoundRows(T* y, int64_t stride, const float* from, int64_t rows, int64_t columns, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    T* __restrict y_C = y + r * stride;
    const float* __restrict from_C = from + r * columns;
    for (int64_t i = 0; i < columns; ++i) {
      y_C[i] = Rounded<T>(accumulate ? ToFloat(y_C[i]) + from_C[i] : from_C[i]);
    }
  }
}

// dx = dlogits gate, by blocks of tokens. Scratch: kWidenedTokens * H fp32 per thread.
void Bf16InputGrad(const RouterGradArgs& args, const float* dlogits_TE, const float* gate_EH, float* scratch,
                   int threads) {
  const int64_t h = args.h, e = args.e;
  ParallelRanges(threads, args.t, kWidenedTokens, [&](int64_t begin, int64_t end, int part) {
    float* const dx_BH = scratch + part * kWidenedTokens * h;
    for (int64_t i = begin; i < end; i += kWidenedTokens) {
      const int64_t rows = std::min(kWidenedTokens, end - i);
      SerialGemm(
          {.m = rows, .n = h, .k = e, .a = dlogits_TE + i * e, .lda = e, .b = gate_EH, .ldb = h, .c = dx_BH, .ldc = h});
      RoundRows(args.dx.as<BFloat16>() + i * h, h, dx_BH, rows, h, args.accumulate_dx);
    }
  });
}

// dgate = dlogits^T x, by blocks of columns and, within these, by blocks of tokens in order: the same for any number of
// threads. Scratch: E * H fp32, then kWidenedTokens * H.
void Bf16GateGrad(const RouterGradArgs& args, const float* dlogits_TE, float* scratch, int threads) {
  const int64_t h = args.h, e = args.e;
  ParallelFor(threads, (h + kColumnBlock - 1) / kColumnBlock, [&](int64_t block) {
    const int64_t begin = block * kColumnBlock, columns = std::min(kColumnBlock, h - begin);
    float* const dgate_EC = scratch + begin * e;
    float* const x_BC = scratch + e * h + begin * kWidenedTokens;
    for (int64_t i = 0; i < args.t; i += kWidenedTokens) {
      const int64_t rows = std::min(kWidenedTokens, args.t - i);
      Widen(x_BC, args.x.as<BFloat16>() + i * h + begin, rows, columns, h);
      SerialGemm({.m = e,
                  .n = columns,
                  .k = rows,
                  .a = dlogits_TE + i * e,
                  .lda = e,
                  .trans_a = true,
                  .b = x_BC,
                  .ldb = columns,
                  .c = dgate_EC,
                  .ldc = columns,
                  .accumulate = i > 0});
    }
    WithElements(args.dgate.dtype, [&](auto element) {
      RoundRows(args.dgate.as<decltype(element)>() + begin, h, dgate_EC, e, columns, args.accumulate_dgate);
    });
  });
}

// Workspace: T * E fp32; in the bf16 variant followed by the widened gate, E * H, and the scratch that its two parts
// use in turn.
void Run(const RouterGradArgs& args, const KernelContext& ctx) {
  float* const dlogits_TE = reinterpret_cast<float*>(ctx.workspace);
  LogitsGrad(args, dlogits_TE, ctx);
  if (args.x.dtype == DType::kFloat32) return Fp32Grad(args, dlogits_TE, ctx);
  float* const gate_EH = dlogits_TE + args.t * args.e;
  float* const scratch = gate_EH + args.e * args.h;
  if (args.dx) {
    WidenGate(gate_EH, args.gate, args.e, args.h, ctx.threads);
    Bf16InputGrad(args, dlogits_TE, gate_EH, scratch, ctx.threads);
  }
  if (args.dgate) Bf16GateGrad(args, dlogits_TE, scratch, ctx.threads);
}

absl::Status CanRun(const RouterArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("router", {.same = {{"x", args.x}, {"gate", args.gate}},
                                        .fp32 = {{"weights", args.weights}, {"probs", args.probs}}}));
  RETURN_IF_ERROR(BelowInt32("router", {args.t, args.h, args.e}));
  if (args.k < 1 || args.k > args.e) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: router chooses from 1 to all of its ", args.e, " experts, got ", args.k));
  }
  return absl::OkStatus();
}

int64_t WorkspaceBytes(const RouterArgs& args, const BackendOptions& options) {
  if (args.x.dtype == DType::kFloat32) return 0;
  return FloatBytes((args.e + options.threads * kWidenedTokens) * args.h);
}

int64_t WorkspaceBytes(const RouterGradArgs& args, const BackendOptions& options) {
  const int64_t dlogits = args.t * args.e;
  if (args.x.dtype == DType::kFloat32) return FloatBytes(dlogits);
  const int64_t scratch_rows = std::max(options.threads * kWidenedTokens, args.e + kWidenedTokens);
  return FloatBytes(dlogits + (args.e + scratch_rows) * args.h);
}

absl::Status CanRun(const RouterGradArgs& args) {
  return Fp32OrBf16("router_grad",
                    {.same = {{"x", args.x}, {"gate", args.gate}, NamedOperand::Optional("dx", args.dx)},
                     .same_or_fp32 = {{"dgate", args.dgate}},
                     .fp32 = {{"dweights", args.dweights}, {"weights", args.weights}, {"probs", args.probs}}});
}

}  // namespace

Kernel<RouterArgs> CpuRouter() { return {&CanRun, &WorkspaceBytes, &Run}; }
Kernel<RouterGradArgs> CpuRouterGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
