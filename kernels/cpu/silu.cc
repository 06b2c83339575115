#include "kernels/ops/silu.h"

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr int64_t kSiluElementGrain = 1024;

template <typename T>
void Forward(const SiluArgs& args, const KernelContext& ctx) {
  const T* __restrict x = args.x.as<T>();
  T* __restrict y = args.y.as<T>();
  ParallelRanges(ctx.threads, args.n, kSiluElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) y[i] = Rounded<T>(Silu(ToFloat(x[i])));
  });
}

// With g = sigmoid(x):  g + x g (1 - g), and 1 - g = sigmoid(-x) does not cancel.
template <typename T>
void Backward(const SiluGradArgs& args, const KernelContext& ctx) {
  const T* __restrict x = args.x.as<T>();
  const T* __restrict dy = args.dy.as<T>();
  T* __restrict dx = args.dx.as<T>();
  ParallelRanges(ctx.threads, args.n, kSiluElementGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float at = ToFloat(x[i]), gate = Sigmoid(at);
      dx[i] = Rounded<T>(ToFloat(dy[i]) * (gate + at * gate * Sigmoid(-at)));
    }
  });
}

void Run(const SiluArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const SiluGradArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const SiluArgs& args) { return Fp32OrBf16("silu", {.same = {{"y", args.y}, {"x", args.x}}}); }

absl::Status CanRun(const SiluGradArgs& args) {
  return Fp32OrBf16("silu_grad", {.same = {{"dx", args.dx}, {"dy", args.dy}, {"x", args.x}}});
}

}  // namespace

Kernel<SiluArgs> CpuSilu() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<SiluGradArgs> CpuSiluGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
