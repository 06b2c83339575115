#include "kernels/ops/gelu.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGeluElementGrain = 1024;

constexpr float kGeluCubic = 0.044715f;
constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2/pi)

// Beyond this the function is x or 0 to the last bit, and the cube could overflow.
constexpr float kSaturated = 16.0f;
// Beyond this the derivative is 1 or 0, and e^(-2u) is still finite.
constexpr float kFlat = 10.0f;

// (1 + tanh(u)) / 2 is the logistic function of this.
float TwiceU(float x) { return kTwiceRoot * (x + kGeluCubic * x * x * x); }

float TanhGelu(float x) { return x * Sigmoid(TwiceU(std::clamp(x, -kSaturated, kSaturated))); }
// With gate = 1 / (1 + e^(-2u)), gate' = gate (1 - gate) (2u)'; 1 - gate = gate e^(-2u) does not cancel.
float TanhGeluSlope(float x) {
  const float at = std::clamp(x, -kFlat, kFlat), odds = Exp(-TwiceU(at)), gate = 1.0f / (1.0f + odds);
  const float slope = gate * (gate * odds) * kTwiceRoot * (1.0f + 3.0f * kGeluCubic * at * at);
  return gate + at * slope;
}

// (1 + erf(x / sqrt(2))) / 2 within 1e-7 (Abramowitz & Stegun 1964, 7.1.26).
float NormalDistribution(float x) {
  const float z = std::fabs(x) * 0.707106781f, t = 1.0f / (1.0f + 0.3275911f * z);
  float p = 1.061405429f * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * (p * t) * Exp(-z * z);
  return x < 0 ? tail : 1.0f - tail;
}
float ErfGelu(float x) { return x * NormalDistribution(x); }
float ErfGeluSlope(float x) { return NormalDistribution(x) + x * (0.39894228f * Exp(-0.5f * x * x)); }

template <typename T, typename Fn>
void Forward(const GeluArgs& args, const KernelContext& ctx, const Fn& gelu) {
  const T* __restrict x = args.x.as<T>();
  T* __restrict y = args.y.as<T>();
  ParallelRanges(ctx.threads, args.n, kGeluElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) y[i] = Rounded<T>(gelu(ToFloat(x[i])));
  });
}

template <typename T, typename Fn>
void Backward(const GeluGradArgs& args, const KernelContext& ctx, const Fn& slope) {
  const T* __restrict x = args.x.as<T>();
  const T* __restrict dy = args.dy.as<T>();
  T* __restrict dx = args.dx.as<T>();
  ParallelRanges(ctx.threads, args.n, kGeluElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) dx[i] = Rounded<T>(ToFloat(dy[i]) * slope(ToFloat(x[i])));
  });
}

// The functions are passed as lambdas so that they are inlined.
void Run(const GeluArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    if (args.erf) return Forward<T>(args, ctx, [](float x) { return ErfGelu(x); });
    Forward<T>(args, ctx, [](float x) { return TanhGelu(x); });
  });
}

void Run(const GeluGradArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    if (args.erf) return Backward<T>(args, ctx, [](float x) { return ErfGeluSlope(x); });
    Backward<T>(args, ctx, [](float x) { return TanhGeluSlope(x); });
  });
}

absl::Status CanRun(const GeluArgs& args) { return Fp32OrBf16("gelu", {.same = {{"y", args.y}, {"x", args.x}}}); }

absl::Status CanRun(const GeluGradArgs& args) {
  return Fp32OrBf16("gelu_grad", {.same = {{"dx", args.dx}, {"dy", args.dy}, {"x", args.x}}});
}

}  // namespace

Kernel<GeluArgs> CpuGelu() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<GeluGradArgs> CpuGeluGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
