#include "kernels/ops/add_rms_norm.h"

#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTokenGrain = 8;
constexpr int64_t kColumnGrain = 64;

// dx and this token's share of dweight:  with n = sum * rstd and g = dy * weight,  dx = dsum + rstd (g - n mean(g n)).
void RowGrad(const AddRmsNormGradArgs& args, int64_t token, float* __restrict dweight_H) {
  const int64_t h = args.h;
  const float* __restrict dy_H = args.dy.as<float>() + token * h;
  const float* __restrict sum_H = args.sum.as<float>() + token * h;
  const float* __restrict weight_H = args.weight.as<float>();
  const float rstd = args.rstd.as<float>()[token];
  if (!args.dx) {
    for (int64_t i = 0; i < h; ++i) dweight_H[i] += dy_H[i] * (sum_H[i] * rstd);
    return;
  }
  float* __restrict dx_H = args.dx.as<float>() + token * h;
  const float dot = SumOfProducts(h, dy_H, weight_H, sum_H);
  const float along = dot * rstd * rstd / static_cast<float>(h);  // mean(g n) rstd, the factor of `sum`
  for (int64_t i = 0; i < h; ++i) {
    dweight_H[i] += dy_H[i] * (sum_H[i] * rstd);
    dx_H[i] = rstd * (dy_H[i] * weight_H[i] - sum_H[i] * along);
  }
  if (!args.dsum) return;
  const float* __restrict dsum_H = args.dsum.as<float>() + token * h;
  for (int64_t i = 0; i < h; ++i) dx_H[i] += dsum_H[i];
}

void Run(const AddRmsNormArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const float* __restrict weight_H = args.weight.as<float>();
  ParallelRanges(ctx.threads, args.t, kTokenGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) {
      const float* __restrict x_H = args.x.as<float>() + token * h;
      const float* __restrict normed_H = x_H;
      if (args.delta) {
        const float* __restrict delta_H = args.delta.as<float>() + token * h;
        float* __restrict sum_H = args.sum.as<float>() + token * h;
        for (int64_t i = 0; i < h; ++i) sum_H[i] = x_H[i] + delta_H[i];
        normed_H = sum_H;
      }
      const float square = SumOfProducts(h, normed_H, normed_H);
      const float rstd = 1.0f / std::sqrt(square / static_cast<float>(h) + args.epsilon);
      float* __restrict y_H = args.y.as<float>() + token * h;
      for (int64_t i = 0; i < h; ++i) y_H[i] = weight_H[i] * (normed_H[i] * rstd);
      args.rstd.as<float>()[token] = rstd;
    }
  });
}

// Workspace: TokenBlocks(T) * H fp32.
void Run(const AddRmsNormGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h, block = TokenBlock(args.t);
  float* partial_NH = reinterpret_cast<float*>(ctx.workspace);
  ParallelFor(ctx.threads, TokenBlocks(args.t), [&](int64_t n) {
    float* dweight_H = partial_NH + n * h;
    std::fill(dweight_H, dweight_H + h, 0.0f);
    for (int64_t i = n * block; i < std::min(args.t, (n + 1) * block); ++i) RowGrad(args, i, dweight_H);
  });
  if (!args.dweight) return;
  ParallelRanges(ctx.threads, h, kColumnGrain, [&](int64_t begin, int64_t end, int) {
    AddTokenBlocks(args.dweight.as<float>(), partial_NH, TokenBlocks(args.t), h, begin, end, args.accumulate_dweight);
  });
}

absl::Status CanRun(const AddRmsNormArgs& args) {
  return Fp32Only("add_rms_norm",
                  {args.sum.dtype, args.y.dtype, args.rstd.dtype, args.x.dtype, args.delta.dtype, args.weight.dtype});
}

int64_t WorkspaceBytes(const AddRmsNormGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t) * args.h);
}

absl::Status CanRun(const AddRmsNormGradArgs& args) {
  return Fp32Only("add_rms_norm_grad", {args.dx.dtype, args.dweight.dtype, args.dy.dtype, args.dsum.dtype,
                                        args.sum.dtype, args.rstd.dtype, args.weight.dtype});
}

}  // namespace

Kernel<AddRmsNormArgs> CpuAddRmsNorm() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<AddRmsNormGradArgs> CpuAddRmsNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
