// The update is elementwise and every operation in it is one correctly rounded IEEE operation (no contraction, no
// reciprocal estimates), so any split of a unit over threads, ranks, pages or devices gives the same bits.
#include "kernels/ops/adamw.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kAdamwElementGrain = 4096;

struct Coefficients {
  float one_minus_beta1, one_minus_beta2, epsilon;
  AdamWScalars scalars;
};

// Without a master; with one; with one and a bf16 gradient, which may be the same memory as the parameters.
enum class AdamWKind { kFp32, kMaster, kMasterAndBf16Gradient };

// Updates elements [begin, end). With a master, the master is updated and the parameters become its rounded values.
template <AdamWKind kKind>
void UpdateSpan(const AdamWArgs& args, int64_t begin, int64_t end, float weight_decay, const Coefficients& c) {
  constexpr bool kHasMaster = kKind != AdamWKind::kFp32;
  using Gradient = std::conditional_t<kKind == AdamWKind::kMasterAndBf16Gradient, BFloat16, float>;
  float* __restrict p = kHasMaster ? args.master.as<float>() : args.param.as<float>();
  float* __restrict m = args.m.as<float>();
  float* __restrict v = args.v.as<float>();
  const Gradient* grad = args.grad.as<Gradient>();
  [[maybe_unused]] BFloat16* rounded = args.param.as<BFloat16>();
  const float one_minus_beta1 = c.one_minus_beta1, one_minus_beta2 = c.one_minus_beta2, epsilon = c.epsilon;
  const float scale = c.scalars.gradient_scale, learning_rate = c.scalars.learning_rate;
  const float correction1 = c.scalars.bias_correction1, correction2 = c.scalars.bias_correction2;
  // Element i is read before it is written, and no later iteration reads it.
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const float g = ToFloat(grad[i]) * scale;
    const float m_new = m[i] + one_minus_beta1 * (g - m[i]);
    const float v_new = v[i] + one_minus_beta2 * (g * g - v[i]);
    const float step = (m_new / correction1) / (std::sqrt(v_new / correction2) + epsilon);
    const float p_new = p[i] - learning_rate * (step + weight_decay * p[i]);
    m[i] = m_new;
    v[i] = v_new;
    p[i] = p_new;
    if constexpr (kHasMaster) rounded[i] = ToBFloat16(p_new);
  }
}

void Run(const AdamWArgs& args, const KernelContext& ctx) {
  const Coefficients coefficients = {1.0f - args.beta1, 1.0f - args.beta2, args.epsilon, *args.scalars};
  const auto update_span = !args.master                          ? &UpdateSpan<AdamWKind::kFp32>
                           : args.grad.dtype == DType::kBFloat16 ? &UpdateSpan<AdamWKind::kMasterAndBf16Gradient>
                                                                 : &UpdateSpan<AdamWKind::kMaster>;
  ParallelRanges(ctx.threads, args.n, kAdamwElementGrain, [&](int64_t begin, int64_t end, int) {
    const ElementSpan* span = args.no_decay;
    const ElementSpan* const spans_end = span + args.no_decay_count;
    for (int64_t i = begin; i < end;) {
      const int64_t at = args.unit_offset + i;
      while (span != spans_end && span->end <= at) ++span;
      const bool decays = span == spans_end || at < span->begin;
      const int64_t border = span == spans_end ? end : (decays ? span->begin : span->end) - args.unit_offset;
      const int64_t next = std::min(end, border);
      update_span(args, i, next, decays ? args.weight_decay : 0.0f, coefficients);
      i = next;
    }
  });
}

absl::Status CanRun(const AdamWArgs& args) {
  const bool rounds = args.param.dtype == DType::kBFloat16;
  if (rounds ? args.param && !args.master : static_cast<bool>(args.master)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: adamw takes param in F32 without a master or in BF16 with one, got ",
                     Name(args.param.dtype), rounds ? " without" : " with one"));
  }
  if (rounds) {
    if (args.grad.dtype == DType::kBFloat16) return Fp32Only("adamw", {args.master.dtype, args.m.dtype, args.v.dtype});
    return Fp32Only("adamw", {args.master.dtype, args.m.dtype, args.v.dtype, args.grad.dtype});
  }
  return Fp32Only("adamw", {args.param.dtype, args.m.dtype, args.v.dtype, args.grad.dtype});
}

}  // namespace

Kernel<AdamWArgs> CpuAdamW() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
