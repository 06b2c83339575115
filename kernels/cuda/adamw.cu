// AdamW with decoupled decay, where each operation is one correctly rounded IEEE operation (-fmad=false, -prec-div,
// -prec-sqrt). It has the bits of the host backend, so an update gives the same result wherever its states rest.
//
// Bytes per element: 28; with a bf16 parameter beside its master 30; with a bf16 gradient as well 28. FLOPs: 15. Limit:
// memory. A thread updates 8 neighbours at a time; the grid strides. A bisection of the sorted spans, once per group,
// tells whether an element decays.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/adamw.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kAdamwThreads = 256;

template <typename Gradient>
struct Operands {
  float *p, *m, *v;
  BFloat16* rounded;     // null without a master
  const Gradient* grad;  // may be `rounded`: a thread reads its elements before it writes them
  std::int64_t n, unit_offset;
  const ElementSpan* no_decay;
  std::int64_t no_decay_count;
  const AdamWScalars* scalars;
  float one_minus_beta1, one_minus_beta2, epsilon, weight_decay;
};

// The first span that ends after element `at` of the unit.
template <typename Gradient>
APTM_DEVICE std::int64_t SpanFrom(const Operands<Gradient>& args, std::int64_t at) {
  std::int64_t low = 0, high = args.no_decay_count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (args.no_decay[middle].end <= at) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <int kWidth, typename Gradient>
APTM_DEVICE void UpdateGroup(const Operands<Gradient>& args, const AdamWScalars& scalars, std::int64_t i) {
  float p[kWidth], m[kWidth], v[kWidth], g[kWidth];
  LoadGroup(args.p + i, p);
  LoadGroup(args.m + i, m);
  LoadGroup(args.v + i, v);
  LoadGroup(args.grad + i, g);
  std::int64_t span = SpanFrom(args, args.unit_offset + i);
  for (int j = 0; j < kWidth; ++j) {
    const std::int64_t at = args.unit_offset + i + j;
    while (span < args.no_decay_count && args.no_decay[span].end <= at) ++span;
    const bool decays = span == args.no_decay_count || at < args.no_decay[span].begin;
    const float weight_decay = decays ? args.weight_decay : 0.0f;
    g[j] = g[j] * scalars.gradient_scale;
    m[j] = m[j] + args.one_minus_beta1 * (g[j] - m[j]);
    v[j] = v[j] + args.one_minus_beta2 * (g[j] * g[j] - v[j]);
    const float step = (m[j] / scalars.bias_correction1) / (sqrtf(v[j] / scalars.bias_correction2) + args.epsilon);
    p[j] = p[j] - scalars.learning_rate * (step + weight_decay * p[j]);
  }
  StoreGroup(args.p + i, p);
  StoreGroup(args.m + i, m);
  StoreGroup(args.v + i, v);
  if (args.rounded != nullptr) StoreGroup(args.rounded + i, p);
}

template <typename Gradient>
__global__ void __launch_bounds__(kAdamwThreads) AdamW(Operands<Gradient> args) {
  const AdamWScalars scalars = *args.scalars;
  const std::int64_t whole = args.n / kGroup * kGroup;
  ForGroups<kGroup>(whole, [&](std::int64_t i) { UpdateGroup<kGroup>(args, scalars, i); });
  ForGroups<1>(args.n - whole, [&](std::int64_t i) { UpdateGroup<1>(args, scalars, whole + i); });
}

template <typename Gradient>
void LaunchAdamWWith(const AdamWArgs& args, const LaunchContext& context) {
  const Operands<Gradient> operands = {.p = args.master ? args.master.as<float>() : args.param.as<float>(),
                                       .m = args.m.as<float>(),
                                       .v = args.v.as<float>(),
                                       .rounded = args.master ? args.param.as<BFloat16>() : nullptr,
                                       .grad = args.grad.as<Gradient>(),
                                       .n = args.n,
                                       .unit_offset = args.unit_offset,
                                       .no_decay = args.no_decay,
                                       .no_decay_count = args.no_decay_count,
                                       .scalars = args.scalars,
                                       .one_minus_beta1 = 1.0f - args.beta1,
                                       .one_minus_beta2 = 1.0f - args.beta2,
                                       .epsilon = args.epsilon,
                                       .weight_decay = args.weight_decay};
  Launch(Striding((args.n + kGroup - 1) / kGroup, kAdamwThreads), context, &AdamW<Gradient>, operands);
}

}  // namespace

void LaunchAdamW(const AdamWArgs& args, const LaunchContext& context) {
  if (args.grad.dtype == DType::kBFloat16) return LaunchAdamWWith<BFloat16>(args, context);
  LaunchAdamWWith<float>(args, context);
}

}  // namespace angel_ptm::cuda
