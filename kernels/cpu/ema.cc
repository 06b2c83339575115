#include "kernels/ops/ema.h"

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kEmaElementGrain = 4096;

void Run(const EmaArgs& args, const KernelContext& ctx) {
  const float rate = args.scalars->rate;
  ParallelRanges(ctx.threads, args.n, kEmaElementGrain, [&](int64_t begin, int64_t end, int) {
    float* __restrict ema = args.ema.as<float>();
    const float* __restrict param = args.param.as<float>();
    for (int64_t i = begin; i < end; ++i) ema[i] = ema[i] + rate * (param[i] - ema[i]);
  });
}

absl::Status CanRun(const EmaArgs& args) { return Fp32Only("ema", {args.ema.dtype, args.param.dtype}); }

}  // namespace

Kernel<EmaArgs> CpuEma() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
