// The update is elementwise and every operation in it is one correctly rounded IEEE operation (no contraction, no
// reciprocal estimates), so any split of a unit over threads, ranks, pages or devices gives the same bits.
#include "kernels/ops/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kElementGrain = 4096;

struct Coefficients {
  float one_minus_beta1, one_minus_beta2, epsilon;
  AdamWScalars scalars;
};

void UpdateSpan(float* __restrict p, float* __restrict m, float* __restrict v, const float* __restrict grad, int64_t n,
                float weight_decay, const Coefficients& c) {
  const float one_minus_beta1 = c.one_minus_beta1, one_minus_beta2 = c.one_minus_beta2, epsilon = c.epsilon;
  const float scale = c.scalars.gradient_scale, learning_rate = c.scalars.learning_rate;
  const float correction1 = c.scalars.bias_correction1, correction2 = c.scalars.bias_correction2;
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * scale;
    const float m_new = m[i] + one_minus_beta1 * (g - m[i]);
    const float v_new = v[i] + one_minus_beta2 * (g * g - v[i]);
    const float step = (m_new / correction1) / (std::sqrt(v_new / correction2) + epsilon);
    m[i] = m_new;
    v[i] = v_new;
    p[i] = p[i] - learning_rate * (step + weight_decay * p[i]);
  }
}

void Run(const AdamWArgs& args, const KernelContext& ctx) {
  const Coefficients coefficients = {1.0f - args.beta1, 1.0f - args.beta2, args.epsilon, *args.scalars};
  ParallelRanges(ctx.threads, args.n, kElementGrain, [&](int64_t begin, int64_t end, int) {
    const ElementSpan* span = args.no_decay;
    const ElementSpan* const spans_end = span + args.no_decay_count;
    for (int64_t i = begin; i < end;) {
      const int64_t at = args.unit_offset + i;
      while (span != spans_end && span->end <= at) ++span;
      const bool decays = span == spans_end || at < span->begin;
      const int64_t border = span == spans_end ? end : (decays ? span->begin : span->end) - args.unit_offset;
      const int64_t next = std::min(end, border);
      UpdateSpan(args.param.as<float>() + i, args.m.as<float>() + i, args.v.as<float>() + i, args.grad.as<float>() + i,
                 next - i, decays ? args.weight_decay : 0.0f, coefficients);
      i = next;
    }
  });
}

absl::Status CanRun(const AdamWArgs& args) {
  return Fp32Only("adamw", {args.param.dtype, args.m.dtype, args.v.dtype, args.grad.dtype});
}

}  // namespace

Kernel<AdamWArgs> CpuAdamW() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
