#include "kernels/ops/add_rms_norm.h"

#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kAddRmsNormTokenGrain = 8;
constexpr int64_t kAddRmsNormColumnGrain = 64;

template <typename T>
void Normalize(const AddRmsNormArgs& args, int64_t token) {
  const int64_t h = args.h;
  const T* __restrict weight_H = args.weight.as<T>();
  const T* __restrict x_H = args.x.as<T>() + token * h;
  const T* __restrict normed_H = x_H;
  if (args.delta) {
    const T* __restrict delta_H = args.delta.as<T>() + token * h;
    T* __restrict sum_H = args.sum.as<T>() + token * h;
    for (int64_t i = 0; i < h; ++i) sum_H[i] = Rounded<T>(ToFloat(x_H[i]) + ToFloat(delta_H[i]));
    normed_H = sum_H;
  }
  const float square = SumOfProducts(h, normed_H, normed_H);
  const float rstd = 1.0f / std::sqrt(square / static_cast<float>(h) + args.epsilon);
  T* __restrict y_H = args.y.as<T>() + token * h;
  for (int64_t i = 0; i < h; ++i) y_H[i] = Rounded<T>(ToFloat(weight_H[i]) * (ToFloat(normed_H[i]) * rstd));
  args.rstd.as<float>()[token] = rstd;
}

// dx, and this token's contribution to dweight:  with n = sum * rstd and g = dy * weight,
// dx = dsum + rstd (g - n mean(g n)).
template <typename T>
void RowGrad(const AddRmsNormGradArgs& args, int64_t token, float* __restrict dweight_H) {
  const int64_t h = args.h;
  const T* __restrict dy_H = args.dy.as<T>() + token * h;
  const T* __restrict sum_H = args.sum.as<T>() + token * h;
  const T* __restrict weight_H = args.weight.as<T>();
  const float rstd = args.rstd.as<float>()[token];
  for (int64_t i = 0; i < h; ++i) dweight_H[i] += ToFloat(dy_H[i]) * (ToFloat(sum_H[i]) * rstd);
  if (!args.dx) return;
  T* __restrict dx_H = args.dx.as<T>() + token * h;
  const float dot = SumOfProducts(h, dy_H, weight_H, sum_H);
  const float along = dot * rstd * rstd / static_cast<float>(h);  // mean(g n) rstd, the factor of `sum`
  const auto through_norm = [&](int64_t i) {
    return rstd * (ToFloat(dy_H[i]) * ToFloat(weight_H[i]) - ToFloat(sum_H[i]) * along);
  };
  if (args.dsum) {
    const T* __restrict dsum_H = args.dsum.as<T>() + token * h;
    for (int64_t i = 0; i < h; ++i) dx_H[i] = Rounded<T>(through_norm(i) + ToFloat(dsum_H[i]));
  } else {
    for (int64_t i = 0; i < h; ++i) dx_H[i] = Rounded<T>(through_norm(i));
  }
}

void Run(const AddRmsNormArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, kAddRmsNormTokenGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) Normalize<decltype(element)>(args, token);
    });
  });
}

// Workspace: TokenBlocks(T) * H fp32.
void Run(const AddRmsNormGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h, block = TokenBlock(args.t);
  float* partial_NH = reinterpret_cast<float*>(ctx.workspace);
  WithElements(args.dy.dtype, [&](auto element) {
    ParallelFor(ctx.threads, TokenBlocks(args.t), [&](int64_t n) {
      float* dweight_H = partial_NH + n * h;
      std::fill(dweight_H, dweight_H + h, 0.0f);
      for (int64_t i = n * block; i < std::min(args.t, (n + 1) * block); ++i) {
        RowGrad<decltype(element)>(args, i, dweight_H);
      }
    });
  });
  if (!args.dweight) return;
  WithElements(args.dweight.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, h, kAddRmsNormColumnGrain, [&](int64_t begin, int64_t end, int) {
      AddTokenBlocks(args.dweight.as<decltype(element)>(), partial_NH, TokenBlocks(args.t), h, begin, end,
                     args.accumulate_dweight);
    });
  });
}

absl::Status CanRun(const AddRmsNormArgs& args) {
  return Fp32OrBf16("add_rms_norm", {.same = {{"y", args.y},
                                              {"x", args.x},
                                              {"weight", args.weight},
                                              NamedOperand::Optional("sum", args.sum),
                                              NamedOperand::Optional("delta", args.delta)},
                                     .fp32 = {{"rstd", args.rstd}}});
}

int64_t WorkspaceBytes(const AddRmsNormGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t) * args.h);
}

absl::Status CanRun(const AddRmsNormGradArgs& args) {
  return Fp32OrBf16("add_rms_norm_grad", {.same = {{"dy", args.dy},
                                                   {"sum", args.sum},
                                                   {"weight", args.weight},
                                                   NamedOperand::Optional("dx", args.dx),
                                                   NamedOperand::Optional("dsum", args.dsum)},
                                          .same_or_fp32 = {{"dweight", args.dweight}},
                                          .fp32 = {{"rstd", args.rstd}}});
}

}  // namespace

Kernel<AddRmsNormArgs> CpuAddRmsNorm() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<AddRmsNormGradArgs> CpuAddRmsNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
