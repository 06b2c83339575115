#include "kernels/ops/router.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTokenGrain = 16;

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

void Run(const RouterArgs& args, const KernelContext& ctx) {
  const int64_t t = args.t, h = args.h, e = args.e, k = args.k;
  float* probs_TE = args.probs.as<float>();
  ParallelGemm(ctx.threads, {.m = t,
                             .n = e,
                             .k = h,
                             .a = args.x.as<float>(),
                             .lda = h,
                             .b = args.gate.as<float>(),
                             .ldb = h,
                             .trans_b = true,
                             .c = probs_TE,
                             .ldc = e});
  ParallelRanges(ctx.threads, t, kTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      SoftmaxInPlace(probs_TE + i * e, e);
      SelectTopK(probs_TE + i * e, e, k, args.experts + i * k, args.weights.as<float>() + i * k);
    }
  });
  std::fill(args.counts, args.counts + e, 0);
  for (int64_t pair = 0; pair < t * k; ++pair) ++args.counts[args.experts[pair]];
}

void Run(const RouterGradArgs& args, const KernelContext& ctx) {
  const int64_t t = args.t, h = args.h, e = args.e, k = args.k;
  float* dlogits_TE = reinterpret_cast<float*>(ctx.workspace);
  const double tokens = static_cast<double>(t);
  // d(aux term)/d(probs_te) is the same for all tokens: aux_scale * counts_e.
  const float aux_scale = static_cast<float>(static_cast<double>(args.aux_coefficient) * *args.target_count *
                                             static_cast<double>(e) / (tokens * static_cast<double>(k) * tokens));
  ParallelRanges(ctx.threads, t, kTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* __restrict p_E = args.probs.as<float>() + i * e;
      const float* weights_K = args.weights.as<float>() + i * k;
      const float* dweights_K = args.dweights.as<float>() + i * k;
      const int32_t* experts_K = args.experts + i * k;
      float* __restrict d_E = dlogits_TE + i * e;
      for (int64_t j = 0; j < e; ++j) d_E[j] = aux_scale * static_cast<float>(args.counts[j]);
      // weights_j = p_j / s with s the sum of the chosen: dp_j = (dweights_j - sum_c dweights_c weights_c) / s.
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

absl::Status CanRun(const RouterArgs& args) {
  RETURN_IF_ERROR(Fp32Only("router", {args.x.dtype, args.gate.dtype}));
  RETURN_IF_ERROR(BelowInt32("router", {args.t, args.h, args.e}));
  if (args.k < 1 || args.k > args.e) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: router chooses from 1 to all of its ", args.e, " experts, got ", args.k));
  }
  return absl::OkStatus();
}

int64_t WorkspaceBytes(const RouterGradArgs& args, const BackendOptions&) { return FloatBytes(args.t * args.e); }

absl::Status CanRun(const RouterGradArgs& args) {
  return Fp32Only("router_grad", {args.dx.dtype, args.dgate.dtype, args.dweights.dtype, args.weights.dtype,
                                  args.probs.dtype, args.x.dtype, args.gate.dtype});
}

}  // namespace

Kernel<RouterArgs> CpuRouter() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<RouterGradArgs> CpuRouterGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
