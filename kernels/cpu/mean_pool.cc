#include "kernels/ops/mean_pool.h"

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

template <typename Args>
int64_t Count(const Args& args, int64_t sample) {
  return args.counts == nullptr ? args.s : args.counts[sample];
}

template <typename T>
void Forward(const MeanPoolArgs& args, int64_t sample) {
  const int64_t h = args.h, count = Count(args, sample);
  const T* x = args.x.as<T>() + sample * args.s * h;
  T* y_H = args.y.as<T>() + sample * h;
  float sum[kSumColumns];
  for (int64_t at = 0; at < h; at += kSumColumns) {
    const int64_t n = std::min(kSumColumns, h - at);
    std::fill(sum, sum + n, 0.0f);
    for (int64_t row = 0; row < count; ++row) {
      const T* __restrict x_n = x + row * h + at;
      for (int64_t i = 0; i < n; ++i) sum[i] += ToFloat(x_n[i]);
    }
    for (int64_t i = 0; i < n; ++i) y_H[at + i] = Rounded<T>(sum[i] / static_cast<float>(count));
  }
}

template <typename T>
void Backward(const MeanPoolGradArgs& args, int64_t sample) {
  const int64_t h = args.h, count = Count(args, sample);
  const T* __restrict dy_H = args.dy.as<T>() + sample * h;
  T* __restrict dx = args.dx.as<T>() + sample * args.s * h;
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = 0; i < h; ++i) dx[row * h + i] = Rounded<T>(ToFloat(dy_H[i]) / static_cast<float>(count));
  }
  std::fill(dx + count * h, dx + args.s * h, T{});
}

void Run(const MeanPoolArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    ParallelFor(ctx.threads, args.b, [&](int64_t sample) { Forward<decltype(element)>(args, sample); });
  });
}

void Run(const MeanPoolGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) {
    ParallelFor(ctx.threads, args.b, [&](int64_t sample) { Backward<decltype(element)>(args, sample); });
  });
}

absl::Status CanRun(const MeanPoolArgs& args) {
  return Fp32OrBf16("mean_pool", {.same = {{"x", args.x}, {"y", args.y}}});
}

absl::Status CanRun(const MeanPoolGradArgs& args) {
  return Fp32OrBf16("mean_pool_grad", {.same = {{"dy", args.dy}, {"dx", args.dx}}});
}

}  // namespace

Kernel<MeanPoolArgs> CpuMeanPool() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<MeanPoolGradArgs> CpuMeanPoolGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
