#include "kernels/ops/swiglu.h"

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

// A thread's share is at least a few rows, so that short inputs do not pay for a team.
constexpr int64_t kRowGrain = 4;

int64_t ActiveRows(int64_t rows, int64_t block_rows, const int32_t* active_blocks) {
  return active_blocks == nullptr ? rows : *active_blocks * block_rows;
}

void Run(const SwigluArgs& args, const KernelContext& ctx) {
  const int64_t f = args.f;
  const int64_t active_rows = ActiveRows(args.rows, args.block_rows, args.active_blocks);
  ParallelRanges(ctx.threads, active_rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* __restrict gate_F = args.gate_up.as<float>() + r * 2 * f;
      const float* __restrict up_F = gate_F + f;
      float* __restrict y_F = args.y.as<float>() + r * f;
      for (int64_t i = 0; i < f; ++i) y_F[i] = Silu(gate_F[i]) * up_F[i];
    }
  });
}

void Run(const SwigluGradArgs& args, const KernelContext& ctx) {
  const int64_t f = args.f;
  const int64_t active_rows = ActiveRows(args.rows, args.block_rows, args.active_blocks);
  ParallelRanges(ctx.threads, active_rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* __restrict gate_F = args.gate_up.as<float>() + r * 2 * f;
      const float* __restrict up_F = gate_F + f;
      const float* __restrict dy_F = args.dy.as<float>() + r * f;
      float* __restrict dgate_F = args.dgate_up.as<float>() + r * 2 * f;
      float* __restrict dup_F = dgate_F + f;
      for (int64_t i = 0; i < f; ++i) {
        const float sigmoid = Sigmoid(gate_F[i]), silu = gate_F[i] * sigmoid;
        dup_F[i] = dy_F[i] * silu;
        dgate_F[i] = dy_F[i] * up_F[i] * (sigmoid + silu * (1.0f - sigmoid));  // silu' = s + g s (1 - s)
      }
    }
  });
}

absl::Status CanRun(const SwigluArgs& args) { return Fp32Only("swiglu", {args.y.dtype, args.gate_up.dtype}); }

absl::Status CanRun(const SwigluGradArgs& args) {
  return Fp32Only("swiglu_grad", {args.dgate_up.dtype, args.dy.dtype, args.gate_up.dtype});
}

}  // namespace

Kernel<SwigluArgs> CpuSwiglu() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<SwigluGradArgs> CpuSwigluGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
