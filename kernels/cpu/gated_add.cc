#include "kernels/ops/gated_add.h"

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sample_blocks.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGatedAddTokenGrain = 16;
constexpr int64_t kGatedAddColumnGrain = 64;

template <typename T>
void Forward(const GatedAddArgs& args, int64_t token) {
  const int64_t h = args.h, at = token * h;
  const T* __restrict delta_H = args.delta.as<T>() + at;
  const T* __restrict gate_H = args.modulation.as<T>() + token / args.s * args.modulation_width + args.gate_at;
  T* __restrict y_H = args.y.as<T>() + at;
  if (!args.x) {
    for (int64_t i = 0; i < h; ++i) y_H[i] = Rounded<T>(ToFloat(gate_H[i]) * ToFloat(delta_H[i]));
    return;
  }
  const T* __restrict x_H = args.x.as<T>() + at;
  for (int64_t i = 0; i < h; ++i) y_H[i] = Rounded<T>(ToFloat(x_H[i]) + ToFloat(gate_H[i]) * ToFloat(delta_H[i]));
}

void Run(const GatedAddArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.b * args.s, kGatedAddTokenGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) Forward<decltype(element)>(args, token);
    });
  });
}

template <typename T>
void RowGrad(const GatedAddGradArgs& args, int64_t token, float* __restrict dgate_H) {
  const int64_t h = args.h, at = token * h;
  const T* __restrict dy_H = args.dy.as<T>() + at;
  const T* __restrict delta_H = args.delta.as<T>() + at;
  for (int64_t i = 0; i < h; ++i) dgate_H[i] += ToFloat(dy_H[i]) * ToFloat(delta_H[i]);
  if (!args.ddelta) return;
  const T* __restrict gate_H = args.modulation.as<T>() + token / args.s * args.modulation_width + args.gate_at;
  T* __restrict ddelta_H = args.ddelta.as<T>() + at;
  for (int64_t i = 0; i < h; ++i) ddelta_H[i] = Rounded<T>(ToFloat(dy_H[i]) * ToFloat(gate_H[i]));
}

// Workspace: SampleBlocks * H fp32.
template <typename T>
void Backward(const GatedAddGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const SampleBlocks blocks(args.b, args.s);
  float* partial_NH = reinterpret_cast<float*>(ctx.workspace);
  ParallelFor(ctx.threads, blocks.count(), [&](int64_t block) {
    float* dgate_H = partial_NH + block * h;
    std::fill(dgate_H, dgate_H + h, 0.0f);
    for (int64_t token = blocks.begin(block); token < blocks.end(block); ++token) RowGrad<T>(args, token, dgate_H);
  });
  if (!args.dmodulation) return;
  ParallelRanges(ctx.threads, h, kGatedAddColumnGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t sample = 0; sample < args.b; ++sample) {
      T* dgate_H = args.dmodulation.as<T>() + sample * args.modulation_width + args.gate_at;
      AddTokenBlocks(dgate_H, partial_NH + sample * blocks.per_sample * h, blocks.per_sample, h, begin, end,
                     /*accumulate=*/false);
    }
  });
}

void Run(const GatedAddGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

int64_t WorkspaceBytes(const GatedAddGradArgs& args, const BackendOptions&) {
  return FloatBytes(SampleBlocks(args.b, args.s).count() * args.h);
}

absl::Status CanRun(const GatedAddArgs& args) {
  return Fp32OrBf16("gated_add", {.same = {{"y", args.y},
                                           NamedOperand::Optional("x", args.x),
                                           {"delta", args.delta},
                                           {"modulation", args.modulation}}});
}

absl::Status CanRun(const GatedAddGradArgs& args) {
  return Fp32OrBf16("gated_add_grad", {.same = {{"dy", args.dy},
                                                {"delta", args.delta},
                                                {"modulation", args.modulation},
                                                NamedOperand::Optional("ddelta", args.ddelta),
                                                NamedOperand::Optional("dmodulation", args.dmodulation)}});
}

}  // namespace

Kernel<GatedAddArgs> CpuGatedAdd() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<GatedAddGradArgs> CpuGatedAddGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
