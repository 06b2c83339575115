#include "kernels/ops/weighted_mse.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

// Elements whose squared differences are summed in fp32; the sums of such pieces are added in double.
constexpr int64_t kMsePiece = 256;

template <typename T>
void Sample(const WeightedMseArgs& args, int64_t sample) {
  const T* x = args.x.as<T>() + sample * args.n;
  const float* target = args.target.as<float>() + sample * args.n;
  T* dx = args.dx ? args.dx.as<T>() + sample * args.n : nullptr;
  const double weight = args.weight.as<float>()[sample], n = static_cast<double>(args.n);
  const float slope = static_cast<float>(2 * weight / n);
  double sum = 0;
  float difference[kMsePiece];
  for (int64_t at = 0; at < args.n; at += kMsePiece) {
    const int64_t count = std::min(kMsePiece, args.n - at);
    for (int64_t i = 0; i < count; ++i) difference[i] = ToFloat(x[at + i]) - target[at + i];
    sum += SumOfProducts(count, difference, difference);
    if (dx == nullptr) continue;
    for (int64_t i = 0; i < count; ++i) dx[at + i] = Rounded<T>(slope * difference[i]);
  }
  args.sample_loss.as<float>()[sample] = static_cast<float>(weight * sum / n);
}

void Run(const WeightedMseArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    ParallelFor(ctx.threads, args.b, [&](int64_t sample) { Sample<decltype(element)>(args, sample); });
  });
}

absl::Status CanRun(const WeightedMseArgs& args) {
  return Fp32OrBf16("weighted_mse",
                    {.same = {{"x", args.x}, NamedOperand::Optional("dx", args.dx)},
                     .fp32 = {{"target", args.target}, {"weight", args.weight}, {"sample_loss", args.sample_loss}}});
}

}  // namespace

Kernel<WeightedMseArgs> CpuWeightedMse() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
