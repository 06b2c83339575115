#include "kernels/ops/layer_norm.h"

#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sample_blocks.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLayerNormTokenGrain = 8;
constexpr int64_t kLayerNormColumnGrain = 64;

// The factor and offset that one sample's normed rows get: y = n factor + offset.
template <typename T, typename Args>
struct Affine {
  const T *weight_H, *bias_H, *scale_H, *shift_H;  // null: ones and zeros

  Affine(const Args& args, int64_t sample) {
    const T* modulation = args.modulation ? args.modulation.template as<T>() + sample * args.modulation_width : nullptr;
    weight_H = args.weight.template as<T>();
    bias_H = args.bias.template as<T>();
    scale_H = modulation != nullptr && args.scale_at >= 0 ? modulation + args.scale_at : nullptr;
    shift_H = modulation != nullptr && args.shift_at >= 0 ? modulation + args.shift_at : nullptr;
  }
  float scale(int64_t i) const { return scale_H == nullptr ? 1.0f : 1.0f + ToFloat(scale_H[i]); }
  float factor(int64_t i) const { return (weight_H == nullptr ? 1.0f : ToFloat(weight_H[i])) * scale(i); }
  float offset(int64_t i) const {
    return (bias_H == nullptr ? 0.0f : ToFloat(bias_H[i]) * scale(i)) +
           (shift_H == nullptr ? 0.0f : ToFloat(shift_H[i]));
  }
};

// centered_H = x - mean(x); returns the mean.
template <typename T>
float Center(float* __restrict centered_H, const T* __restrict x_H, int64_t h) {
  const float mean = SumOfProducts(h, x_H) / static_cast<float>(h);
  for (int64_t i = 0; i < h; ++i) centered_H[i] = ToFloat(x_H[i]) - mean;
  return mean;
}

// Scratch of one thread: [3,H]: the sample's factor and offset, and one row.
template <typename T>
void Forward(const LayerNormArgs& args, int64_t begin, int64_t end, float* scratch_3H) {
  const int64_t h = args.h;
  float* __restrict factor_H = scratch_3H, * __restrict offset_H = scratch_3H + h, *row_H = scratch_3H + 2 * h;
  for (int64_t token = begin; token < end; ++token) {
    if (token == begin || token % args.s == 0) {
      const Affine<T, LayerNormArgs> affine(args, token / args.s);
      for (int64_t i = 0; i < h; ++i) factor_H[i] = affine.factor(i);
      for (int64_t i = 0; i < h; ++i) offset_H[i] = affine.offset(i);
    }
    const float mean = Center(row_H, args.x.as<T>() + token * h, h);
    const float rstd = 1.0f / std::sqrt(SumOfProducts(h, row_H, row_H) / static_cast<float>(h) + args.epsilon);
    T* __restrict y_H = args.y.as<T>() + token * h;
    for (int64_t i = 0; i < h; ++i) y_H[i] = Rounded<T>(row_H[i] * rstd * factor_H[i] + offset_H[i]);
    args.statistics.as<float>()[2 * token] = mean;
    args.statistics.as<float>()[2 * token + 1] = rstd;
  }
}

void Run(const LayerNormArgs& args, const KernelContext& ctx) {
  float* scratch = reinterpret_cast<float*>(ctx.workspace);
  WithElements(args.x.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.b * args.s, kLayerNormTokenGrain, [&](int64_t begin, int64_t end, int part) {
      Forward<decltype(element)>(args, begin, end, scratch + part * 3 * args.h);
    });
  });
}

int64_t WorkspaceBytes(const LayerNormArgs& args, const BackendOptions& options) {
  return FloatBytes(options.threads * 3 * args.h);
}

// With dn = dy factor:  dx = dsum + rstd (dn - mean(dn) - n mean(dn n)). Adds dy and dy n to the block's two sums.
template <typename T>
void RowGrad(const LayerNormGradArgs& args, int64_t token, const float* __restrict factor_H, float* __restrict n_H,
             float* __restrict dn_H, float* __restrict sum_2H) {
  const int64_t h = args.h;
  const float mean = args.statistics.as<float>()[2 * token], rstd = args.statistics.as<float>()[2 * token + 1];
  const T* __restrict x_H = args.x.as<T>() + token * h;
  const T* __restrict dy_H = args.dy.as<T>() + token * h;
  for (int64_t i = 0; i < h; ++i) {
    const float dy = ToFloat(dy_H[i]);
    n_H[i] = (ToFloat(x_H[i]) - mean) * rstd;
    dn_H[i] = dy * factor_H[i];
    sum_2H[i] += dy;
    sum_2H[h + i] += dy * n_H[i];
  }
  if (!args.dx) return;
  const float mean_dn = SumOfProducts(h, dn_H) / static_cast<float>(h);
  const float along = SumOfProducts(h, dn_H, n_H) / static_cast<float>(h);
  T* __restrict dx_H = args.dx.as<T>() + token * h;
  if (args.dsum) {
    const T* __restrict dsum_H = args.dsum.as<T>() + token * h;
    for (int64_t i = 0; i < h; ++i) {
      dx_H[i] = Rounded<T>(rstd * (dn_H[i] - mean_dn - n_H[i] * along) + ToFloat(dsum_H[i]));
    }
  } else {
    for (int64_t i = 0; i < h; ++i) dx_H[i] = Rounded<T>(rstd * (dn_H[i] - mean_dn - n_H[i] * along));
  }
}

// Adds a sample's contributions to columns [begin, begin + n) of dbias and dweight, and writes its dmodulation there.
template <typename T>
void SampleGrad(const LayerNormGradArgs& args, int64_t sample, const float* partial, int64_t begin, int64_t n,
                float* __restrict dbias_n, float* __restrict dweight_n) {
  const SampleBlocks blocks(args.b, args.s);
  const Affine<T, LayerNormGradArgs> affine(args, sample);
  float dy[kSumColumns] = {}, dy_n[kSumColumns] = {};
  for (int64_t block = 0; block < blocks.per_sample; ++block) {
    const float* sum_2H = partial + (sample * blocks.per_sample + block) * 2 * args.h + begin;
    for (int64_t i = 0; i < n; ++i) dy[i] += sum_2H[i];
    for (int64_t i = 0; i < n; ++i) dy_n[i] += sum_2H[args.h + i];
  }
  for (int64_t i = 0; i < n; ++i) {
    dbias_n[i] += dy[i] * affine.scale(begin + i);
    dweight_n[i] += dy_n[i] * affine.scale(begin + i);
  }
  if (!args.dmodulation) return;
  T* dmodulation = args.dmodulation.as<T>() + sample * args.modulation_width + begin;
  if (args.shift_at >= 0) {
    for (int64_t i = 0; i < n; ++i) dmodulation[args.shift_at + i] = Rounded<T>(dy[i]);
  }
  if (args.scale_at < 0) return;
  for (int64_t i = 0; i < n; ++i) {
    const float weight = affine.weight_H == nullptr ? 1.0f : ToFloat(affine.weight_H[begin + i]);
    const float bias = affine.bias_H == nullptr ? 0.0f : ToFloat(affine.bias_H[begin + i]);
    dmodulation[args.scale_at + i] = Rounded<T>(dy_n[i] * weight + dy[i] * bias);
  }
}

// out (+)= sum, in columns [begin, begin + n).
void AddTo(const Operand& out, const float* sum, int64_t begin, int64_t n, bool accumulate) {
  if (!out) return;
  WithElements(out.dtype, [&](auto element) {
    using T = decltype(element);
    T* to = out.as<T>() + begin;
    for (int64_t i = 0; i < n; ++i) to[i] = Rounded<T>((accumulate ? ToFloat(to[i]) : 0.0f) + sum[i]);
  });
}

template <typename T>
void Backward(const LayerNormGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const SampleBlocks blocks(args.b, args.s);
  float* partial_N2H = reinterpret_cast<float*>(ctx.workspace);
  float* scratch = partial_N2H + blocks.count() * 2 * h;
  ParallelRanges(ctx.threads, blocks.count(), 1, [&](int64_t first, int64_t last, int part) {
    float* factor_H = scratch + part * 3 * h;
    for (int64_t block = first; block < last; ++block) {
      const Affine<T, LayerNormGradArgs> affine(args, block / blocks.per_sample);
      for (int64_t i = 0; i < h; ++i) factor_H[i] = affine.factor(i);
      float* sum_2H = partial_N2H + block * 2 * h;
      std::fill(sum_2H, sum_2H + 2 * h, 0.0f);
      for (int64_t token = blocks.begin(block); token < blocks.end(block); ++token) {
        RowGrad<T>(args, token, factor_H, factor_H + h, factor_H + 2 * h, sum_2H);
      }
    }
  });
  ParallelRanges(ctx.threads, h, kLayerNormColumnGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin; at < end; at += kSumColumns) {
      const int64_t n = std::min(kSumColumns, end - at);
      float dbias[kSumColumns] = {}, dweight[kSumColumns] = {};
      for (int64_t sample = 0; sample < args.b; ++sample) {
        SampleGrad<T>(args, sample, partial_N2H, at, n, dbias, dweight);
      }
      AddTo(args.dbias, dbias, at, n, args.accumulate_dweight);
      AddTo(args.dweight, dweight, at, n, args.accumulate_dweight);
    }
  });
}

// Workspace: SampleBlocks * 2 H fp32, then 3 H fp32 per thread.
void Run(const LayerNormGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

int64_t WorkspaceBytes(const LayerNormGradArgs& args, const BackendOptions& options) {
  return FloatBytes((SampleBlocks(args.b, args.s).count() * 2 + options.threads * 3) * args.h);
}

absl::Status CanRun(const LayerNormArgs& args) {
  return Fp32OrBf16("layer_norm", {.same = {{"x", args.x},
                                            {"y", args.y},
                                            NamedOperand::Optional("weight", args.weight),
                                            NamedOperand::Optional("bias", args.bias),
                                            NamedOperand::Optional("modulation", args.modulation)},
                                   .fp32 = {{"statistics", args.statistics}}});
}

absl::Status CanRun(const LayerNormGradArgs& args) {
  return Fp32OrBf16("layer_norm_grad", {.same = {{"dy", args.dy},
                                                 {"x", args.x},
                                                 NamedOperand::Optional("dx", args.dx),
                                                 NamedOperand::Optional("dsum", args.dsum),
                                                 NamedOperand::Optional("weight", args.weight),
                                                 NamedOperand::Optional("bias", args.bias),
                                                 NamedOperand::Optional("modulation", args.modulation),
                                                 NamedOperand::Optional("dmodulation", args.dmodulation)},
                                        .same_or_fp32 = {{"dweight", args.dweight}, {"dbias", args.dbias}},
                                        .fp32 = {{"statistics", args.statistics}}});
}

}  // namespace

Kernel<LayerNormArgs> CpuLayerNorm() { return {&CanRun, &WorkspaceBytes, &Run}; }
Kernel<LayerNormGradArgs> CpuLayerNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
