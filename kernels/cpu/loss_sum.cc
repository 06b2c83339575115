#include "kernels/ops/loss_sum.h"

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"

namespace angel_ptm {
namespace {

void Run(const LossSumArgs& args, const KernelContext&) {
  const float* values = args.values.as<float>();
  double sum = 0;
  for (int64_t i = 0; i < args.first_n; ++i) sum += values[i];
  *args.first += sum;
  for (int64_t i = args.first_n; i < args.n; ++i) sum += values[i];
  *args.loss += sum;
  *args.weight += args.batch_weight.as<float>()[0];
}

absl::Status CanRun(const LossSumArgs& args) {
  return Fp32Only("loss_sum", {args.values.dtype, args.batch_weight.dtype});
}

}  // namespace

Kernel<LossSumArgs> CpuLossSum() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
