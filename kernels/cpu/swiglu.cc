#include "kernels/ops/swiglu.h"

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

// A thread's share is at least a few rows, so that short inputs do not pay for a team.
constexpr int64_t kSwigluRowGrain = 4;

int64_t ActiveRows(int64_t rows, int64_t block_rows, const int32_t* active_blocks) {
  return active_blocks == nullptr ? rows : *active_blocks * block_rows;
}

template <typename T>
void Forward(const SwigluArgs& args, const KernelContext& ctx) {
  const int64_t f = args.f;
  const int64_t active_rows = ActiveRows(args.rows, args.block_rows, args.active_blocks);
  ParallelRanges(ctx.threads, active_rows, kSwigluRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const T* __restrict gate_F = args.gate_up.as<T>() + r * 2 * f;
      const T* __restrict up_F = gate_F + f;
      T* __restrict y_F = args.y.as<T>() + r * f;
      for (int64_t i = 0; i < f; ++i) y_F[i] = Rounded<T>(Silu(ToFloat(gate_F[i])) * ToFloat(up_F[i]));
    }
  });
}

template <typename T>
void Backward(const SwigluGradArgs& args, const KernelContext& ctx) {
  const int64_t f = args.f;
  const int64_t active_rows = ActiveRows(args.rows, args.block_rows, args.active_blocks);
  ParallelRanges(ctx.threads, active_rows, kSwigluRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const T* __restrict gate_F = args.gate_up.as<T>() + r * 2 * f;
      const T* __restrict up_F = gate_F + f;
      const T* __restrict dy_F = args.dy.as<T>() + r * f;
      T* __restrict dgate_F = args.dgate_up.as<T>() + r * 2 * f;
      T* __restrict dup_F = dgate_F + f;
      for (int64_t i = 0; i < f; ++i) {
        const float gate = ToFloat(gate_F[i]), dy = ToFloat(dy_F[i]);
        const float sigmoid = Sigmoid(gate), silu = gate * sigmoid;
        dup_F[i] = Rounded<T>(dy * silu);
        // silu' = s + g s (1 - s)
        dgate_F[i] = Rounded<T>(dy * ToFloat(up_F[i]) * (sigmoid + silu * (1.0f - sigmoid)));
      }
    }
  });
}

void Run(const SwigluArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const SwigluGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const SwigluArgs& args) {
  return Fp32OrBf16("swiglu", {.same = {{"y", args.y}, {"gate_up", args.gate_up}}});
}

absl::Status CanRun(const SwigluGradArgs& args) {
  return Fp32OrBf16("swiglu_grad", {.same = {{"dgate_up", args.dgate_up}, {"dy", args.dy}, {"gate_up", args.gate_up}}});
}

}  // namespace

Kernel<SwigluArgs> CpuSwiglu() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<SwigluGradArgs> CpuSwigluGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
