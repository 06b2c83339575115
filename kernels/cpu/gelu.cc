#include "kernels/ops/gelu.h"

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kElementGrain = 1024;

constexpr float kCubic = 0.044715f;
constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2/pi)

// Where the function is x or 0 to the last bit: beyond it the cube would overflow to no purpose.
constexpr float kSaturated = 16.0f;
// Where its derivative is 1 or 0, and e^(-2u) still a number.
constexpr float kFlat = 10.0f;

// (1 + tanh(u)) / 2 is the logistic function of this.
float TwiceU(float x) { return kTwiceRoot * (x + kCubic * x * x * x); }

template <typename T>
void Forward(const GeluArgs& args, const KernelContext& ctx) {
  const T* __restrict x = args.x.as<T>();
  T* __restrict y = args.y.as<T>();
  ParallelRanges(ctx.threads, args.n, kElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float at = ToFloat(x[i]);
      y[i] = Rounded<T>(at * Sigmoid(TwiceU(std::clamp(at, -kSaturated, kSaturated))));
    }
  });
}

// With gate = 1 / (1 + e^(-2u)), gate' = gate (1 - gate) (2u)'; 1 - gate = gate e^(-2u) does not cancel.
template <typename T>
void Backward(const GeluGradArgs& args, const KernelContext& ctx) {
  const T* __restrict x = args.x.as<T>();
  const T* __restrict dy = args.dy.as<T>();
  T* __restrict dx = args.dx.as<T>();
  ParallelRanges(ctx.threads, args.n, kElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float at = std::clamp(ToFloat(x[i]), -kFlat, kFlat);
      const float odds = Exp(-TwiceU(at)), gate = 1.0f / (1.0f + odds);
      const float slope = gate * (gate * odds) * kTwiceRoot * (1.0f + 3.0f * kCubic * at * at);
      dx[i] = Rounded<T>(ToFloat(dy[i]) * (gate + at * slope));
    }
  });
}

void Run(const GeluArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const GeluGradArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const GeluArgs& args) { return Fp32OrBf16("gelu", {.same = {{"y", args.y}, {"x", args.x}}}); }

absl::Status CanRun(const GeluGradArgs& args) {
  return Fp32OrBf16("gelu_grad", {.same = {{"dx", args.dx}, {"dy", args.dy}, {"x", args.x}}});
}

}  // namespace

Kernel<GeluArgs> CpuGelu() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<GeluGradArgs> CpuGeluGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
