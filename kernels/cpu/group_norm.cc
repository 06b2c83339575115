// Statistics are sums of x and x^2 in double over fixed blocks of rows, added block by block. A group of an image has
// millions of elements; in double, subtracting the square of the mean does not cancel the variance.
#include "kernels/ops/group_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sample_blocks.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

int64_t DoubleBytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(double)); }

// Per column of one sample: n = (x - mean) rstd, a = n weight + bias.
struct Columns {
  float *mean_C, *rstd_C, *weight_C, *bias_C;

  Columns(float* scratch_4C, int64_t c)
      : mean_C(scratch_4C), rstd_C(scratch_4C + c), weight_C(scratch_4C + 2 * c), bias_C(scratch_4C + 3 * c) {}
  template <typename T, typename Args>
  void Fill(const Args& args, int64_t sample) const {
    const int64_t width = args.c / args.groups;
    const float* const of_groups = args.statistics.template as<float>() + 2 * sample * args.groups;
    for (int64_t i = 0; i < args.c; ++i) {
      mean_C[i] = of_groups[2 * (i / width)];
      rstd_C[i] = of_groups[2 * (i / width) + 1];
      weight_C[i] = ToFloat(args.weight.template as<T>()[i]);
      bias_C[i] = ToFloat(args.bias.template as<T>()[i]);
    }
  }
};

// sums_2C gets the sums of x and x^2 of the block's rows.
template <typename T>
void SumBlock(const GroupNormArgs& args, const SampleBlocks& blocks, int64_t block, double* __restrict sums_2C) {
  const int64_t c = args.c;
  std::fill(sums_2C, sums_2C + 2 * c, 0.0);
  for (int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
    const T* __restrict x_C = args.x.as<T>() + row * c;
    for (int64_t i = 0; i < c; ++i) {
      const double x = static_cast<double>(ToFloat(x_C[i]));
      sums_2C[i] += x;
      sums_2C[c + i] += x * x;
    }
  }
}

// Computes the statistics of one group of one sample from its blocks' sums.
void WriteStatistics(const GroupNormArgs& args, const SampleBlocks& blocks, const double* sums_N2C, int64_t at) {
  const int64_t sample = at / args.groups, width = args.c / args.groups, column = at % args.groups * width;
  double sum = 0, squares = 0;
  for (int64_t block = sample * blocks.per_sample; block < (sample + 1) * blocks.per_sample; ++block) {
    const double* const of_block = sums_N2C + block * 2 * args.c + column;
    for (int64_t i = 0; i < width; ++i) sum += of_block[i], squares += of_block[args.c + i];
  }
  const double n = static_cast<double>(args.s * width), mean = sum / n;
  const double variance = std::max(0.0, squares / n - mean * mean);
  float* const statistics = args.statistics.as<float>() + 2 * at;
  statistics[0] = static_cast<float>(mean);
  statistics[1] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(args.epsilon)));
}

template <typename T, bool kSilu>
void Normalise(const GroupNormArgs& args, int64_t begin, int64_t end, const Columns& columns) {
  const int64_t c = args.c;
  const float* __restrict mean_C = columns.mean_C, * __restrict rstd_C = columns.rstd_C;
  const float* __restrict weight_C = columns.weight_C, * __restrict bias_C = columns.bias_C;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict x_C = args.x.as<T>() + row * c;
    T* __restrict y_C = args.y.as<T>() + row * c;
    for (int64_t i = 0; i < c; ++i) {
      const float a = (ToFloat(x_C[i]) - mean_C[i]) * rstd_C[i] * weight_C[i] + bias_C[i];
      y_C[i] = Rounded<T>(kSilu ? Silu(a) : a);
    }
  }
}

// Workspace: per block 2 C double, then per thread 4 C fp32.
template <typename T>
void Forward(const GroupNormArgs& args, const KernelContext& ctx) {
  const SampleBlocks blocks(args.b, args.s);
  double* const sums_N2C = reinterpret_cast<double*>(ctx.workspace);
  float* const scratch = reinterpret_cast<float*>(ctx.workspace + DoubleBytes(blocks.count() * 2 * args.c));
  ParallelFor(ctx.threads, blocks.count(),
              [&](int64_t block) { SumBlock<T>(args, blocks, block, sums_N2C + block * 2 * args.c); });
  ParallelFor(ctx.threads, args.b * args.groups, [&](int64_t at) { WriteStatistics(args, blocks, sums_N2C, at); });
  ParallelRanges(ctx.threads, blocks.count(), 1, [&](int64_t first, int64_t last, int part) {
    const Columns columns(scratch + part * 4 * args.c, args.c);
    for (int64_t block = first; block < last; ++block) {
      if (block == first || block % blocks.per_sample == 0) columns.Fill<T>(args, block / blocks.per_sample);
      auto* const normalise = args.silu ? &Normalise<T, true> : &Normalise<T, false>;
      normalise(args, blocks.begin(block), blocks.end(block), columns);
    }
  });
}

// The gradient with respect to a, given that of y = a or y = a sigmoid(a), whose derivative is g + a g (1 - g) with
// g = sigmoid(a).
template <bool kSilu>
inline float SlopeOf(float dy, float a) {
  if constexpr (!kSilu) return dy;
  const float gate = Sigmoid(a);
  return dy * (gate + a * gate * Sigmoid(-a));
}

// sums_2C gets the sums over the block's rows of da and of da n, from which dbias, dweight and dx are computed.
template <typename T, bool kSilu>
void SumGrads(const GroupNormGradArgs& args, int64_t begin, int64_t end, const Columns& columns,
              double* __restrict sums_2C) {
  const int64_t c = args.c;
  const float* __restrict mean_C = columns.mean_C, * __restrict rstd_C = columns.rstd_C;
  const float* __restrict weight_C = columns.weight_C, * __restrict bias_C = columns.bias_C;
  std::fill(sums_2C, sums_2C + 2 * c, 0.0);
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict x_C = args.x.as<T>() + row * c;
    const T* __restrict dy_C = args.dy.as<T>() + row * c;
    for (int64_t i = 0; i < c; ++i) {
      const float n = (ToFloat(x_C[i]) - mean_C[i]) * rstd_C[i];
      const float da = SlopeOf<kSilu>(ToFloat(dy_C[i]), n * weight_C[i] + bias_C[i]);
      sums_2C[i] += static_cast<double>(da);
      sums_2C[c + i] += static_cast<double>(da * n);
    }
  }
}

// means_2C: means over each column's group of dn = da weight and of dn n.  dx = rstd (dn - mean(dn) - n mean(dn n)).
template <typename T, bool kSilu>
void WriteGrads(const GroupNormGradArgs& args, int64_t begin, int64_t end, const Columns& columns,
                const float* __restrict means_2C) {
  const int64_t c = args.c;
  const float* __restrict mean_C = columns.mean_C, * __restrict rstd_C = columns.rstd_C;
  const float* __restrict weight_C = columns.weight_C, * __restrict bias_C = columns.bias_C;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict x_C = args.x.as<T>() + row * c;
    const T* __restrict dy_C = args.dy.as<T>() + row * c;
    T* __restrict dx_C = args.dx.as<T>() + row * c;
    for (int64_t i = 0; i < c; ++i) {
      const float n = (ToFloat(x_C[i]) - mean_C[i]) * rstd_C[i];
      const float dn = SlopeOf<kSilu>(ToFloat(dy_C[i]), n * weight_C[i] + bias_C[i]) * weight_C[i];
      dx_C[i] = Rounded<T>(rstd_C[i] * (dn - means_2C[i] - n * means_2C[c + i]));
    }
  }
}

// out[C] (+)= the sum over all blocks of their sums, which are 2 C apart.
void AddBlocks(const Operand& out, const double* sums, int64_t blocks, int64_t c, bool accumulate) {
  if (!out) return;
  WithElements(out.dtype, [&](auto element) {
    using T = decltype(element);
    for (int64_t i = 0; i < c; ++i) {
      double sum = accumulate ? static_cast<double>(ToFloat(out.as<T>()[i])) : 0;
      for (int64_t block = 0; block < blocks; ++block) sum += sums[block * 2 * c + i];
      out.as<T>()[i] = Rounded<T>(static_cast<float>(sum));
    }
  });
}

// Fills means_2C of a sample: each column has the means of its group.
void FillMeans(const GroupNormGradArgs& args, const SampleBlocks& blocks, const double* sums_N2C, int64_t sample,
               const Columns& columns, float* means_2C) {
  const int64_t c = args.c, width = c / args.groups;
  for (int64_t first = 0; first < c; first += width) {
    double sum = 0, along = 0;
    for (int64_t block = sample * blocks.per_sample; block < (sample + 1) * blocks.per_sample; ++block) {
      const double* const of_block = sums_N2C + block * 2 * c;
      for (int64_t i = first; i < first + width; ++i) {
        sum += of_block[i] * static_cast<double>(columns.weight_C[i]);
        along += of_block[c + i] * static_cast<double>(columns.weight_C[i]);
      }
    }
    const double n = static_cast<double>(args.s * width);
    std::fill_n(means_2C + first, width, static_cast<float>(sum / n));
    std::fill_n(means_2C + c + first, width, static_cast<float>(along / n));
  }
}

// Workspace: per block 2 C double, then per thread 6 C fp32.
template <typename T, bool kSilu>
void Backward(const GroupNormGradArgs& args, const KernelContext& ctx) {
  const int64_t c = args.c;
  const SampleBlocks blocks(args.b, args.s);
  double* const sums_N2C = reinterpret_cast<double*>(ctx.workspace);
  float* const scratch = reinterpret_cast<float*>(ctx.workspace + DoubleBytes(blocks.count() * 2 * c));
  const auto for_blocks = [&](const auto& at_sample, const auto& of_block) {
    ParallelRanges(ctx.threads, blocks.count(), 1, [&](int64_t first, int64_t last, int part) {
      const Columns columns(scratch + part * 6 * c, c);
      float* const means_2C = scratch + part * 6 * c + 4 * c;
      for (int64_t block = first; block < last; ++block) {
        const int64_t sample = block / blocks.per_sample;
        if (block == first || block % blocks.per_sample == 0) {
          columns.Fill<T>(args, sample);
          at_sample(sample, columns, means_2C);
        }
        of_block(block, columns, means_2C);
      }
    });
  };
  for_blocks([](int64_t, const Columns&, float*) {},
             [&](int64_t block, const Columns& columns, float*) {
               SumGrads<T, kSilu>(args, blocks.begin(block), blocks.end(block), columns, sums_N2C + block * 2 * c);
             });
  AddBlocks(args.dbias, sums_N2C, blocks.count(), c, args.accumulate_dweight);
  AddBlocks(args.dweight, sums_N2C + c, blocks.count(), c, args.accumulate_dweight);
  if (!args.dx) return;
  for_blocks([&](int64_t sample, const Columns& columns,
                 float* means_2C) { FillMeans(args, blocks, sums_N2C, sample, columns, means_2C); },
             [&](int64_t block, const Columns& columns, const float* means_2C) {
               WriteGrads<T, kSilu>(args, blocks.begin(block), blocks.end(block), columns, means_2C);
             });
}

void Run(const GroupNormArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const GroupNormGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    return args.silu ? Backward<T, true>(args, ctx) : Backward<T, false>(args, ctx);
  });
}

int64_t WorkspaceBytes(const GroupNormArgs& args, const BackendOptions& options) {
  return DoubleBytes(SampleBlocks(args.b, args.s).count() * 2 * args.c) + FloatBytes(options.threads * 4 * args.c);
}
int64_t WorkspaceBytes(const GroupNormGradArgs& args, const BackendOptions& options) {
  return DoubleBytes(SampleBlocks(args.b, args.s).count() * 2 * args.c) + FloatBytes(options.threads * 6 * args.c);
}

absl::Status CanRun(const GroupNormArgs& args) {
  RETURN_IF_ERROR(
      Fp32OrBf16("group_norm", {.same = {{"x", args.x}, {"y", args.y}, {"weight", args.weight}, {"bias", args.bias}},
                                .fp32 = {{"statistics", args.statistics}}}));
  return BelowInt32("group_norm", {args.b * args.s, args.c, args.groups});
}

absl::Status CanRun(const GroupNormGradArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("group_norm_grad", {.same = {{"dy", args.dy},
                                                          {"x", args.x},
                                                          {"weight", args.weight},
                                                          {"bias", args.bias},
                                                          NamedOperand::Optional("dx", args.dx)},
                                                 .same_or_fp32 = {{"dweight", args.dweight}, {"dbias", args.dbias}},
                                                 .fp32 = {{"statistics", args.statistics}}}));
  return BelowInt32("group_norm_grad", {args.b * args.s, args.c, args.groups});
}

}  // namespace

Kernel<GroupNormArgs> CpuGroupNorm() { return {&CanRun, &WorkspaceBytes, &Run}; }
Kernel<GroupNormGradArgs> CpuGroupNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
