#include "kernels/ops/rope_table.h"

#include <cmath>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRopeTableTokenGrain = 16;

// Rounded to fp32 where the Hugging Face models round: the base, the exponents, the frequencies and the angles.
void Run(const RopeTableArgs& args, const KernelContext& ctx) {
  const int64_t half = args.d / 2;
  const double d = static_cast<double>(args.d);
  const float base = static_cast<float>(args.alpha > 0 ? args.theta * std::pow(args.alpha, d / (d - 2)) : args.theta);
  float frequency[kHeadDimMax / 2];
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(args.d);
    frequency[i] = 1.0f / static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  ParallelRanges(ctx.threads, args.t, kRopeTableTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) {
      float* cos_sin = args.cos_sin.as<float>() + token * args.d;
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(args.positions[token]) * frequency[i];
        cos_sin[2 * i] = std::cos(angle);
        cos_sin[2 * i + 1] = std::sin(angle);
      }
    }
  });
}

absl::Status CanRun(const RopeTableArgs& args) {
  RETURN_IF_ERROR(Fp32Only("rope_table", {args.cos_sin.dtype}));
  RETURN_IF_ERROR(HeadsSupported("rope_table", 1, 1, args.d));
  if (args.alpha > 0 && args.d == 2) {
    return absl::InvalidArgumentError("cpu backend: rope_table with alpha > 0 takes a head dimension above 2, got 2");
  }
  return absl::OkStatus();
}

}  // namespace

Kernel<RopeTableArgs> CpuRopeTable() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
