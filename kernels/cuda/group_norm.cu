// y = a, or a sigmoid(a), with a = n weight + bias and n = (x - mean) rstd over the columns of a group in all rows of a
// sample (kernels/ops/group_norm.h), and the gradient: with da = dy, or dy times silu's derivative, and dn = da weight,
//   dx = rstd (dn - mean(dn) - n mean(dn n));   dweight (+)= sum of da n,  dbias (+)= sum of da.
//
// Bytes of elements: 3 T C forward, 5 T C backward; FLOPs: about 10 and 30 T C. Limit: memory. A sample's rows are cut
// into a number of shares that depends on the shape alone. Forward, a block sums one group of a share, x and x^2 in
// double, where subtracting the square of the mean does not cancel the variance. Backward, a thread sums a column of a
// share in order. Other launches add the shares in order. Workspace: shares B groups 2 double; backward shares B 2 C
// fp32 and B groups 2 fp32.
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/group_norm.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kGroupNormThreads = 256;

std::int64_t SharesOf(std::int64_t s) {
  constexpr std::int64_t kSharesMax = 64;
  return s < kSharesMax ? s : kSharesMax;
}

template <typename T>
struct Norm {
  const T *x, *weight, *bias;
  const float* statistics;
  std::int64_t s, c, groups, shares;
  bool silu;

  APTM_DEVICE std::int64_t Width() const { return c / groups; }
  APTM_DEVICE std::int64_t Begin(std::int64_t share) const {
    const std::int64_t row = share * ((s + shares - 1) / shares);
    return row < s ? row : s;
  }
  // The group of element i of [T,C].
  APTM_DEVICE std::int64_t GroupOf(std::int64_t i) const { return i / (s * c) * groups + i % c / Width(); }
  APTM_DEVICE float Normed(std::int64_t i) const {
    const std::int64_t group = GroupOf(i);
    return (Widened(x[i]) - statistics[2 * group]) * statistics[2 * group + 1];
  }
  APTM_DEVICE float Affine(std::int64_t i, float normed) const {
    return normed * Widened(weight[i % c]) + Widened(bias[i % c]);
  }
  // The gradient with respect to a.
  APTM_DEVICE float Slope(std::int64_t i, float normed, float dy) const {
    if (!silu) return dy;
    // 1 - gate is the gate of -a, which does not cancel where the gate is close to 1.
    const float a = Affine(i, normed), gate = 1.0f / (1.0f + expf(-a));
    return dy * (gate + a * gate / (1.0f + expf(a)));
  }
};
template <typename T, typename Args>
Norm<T> NormOf(const Args& args) {
  return {args.x.template as<T>(),
          args.weight.template as<T>(),
          args.bias.template as<T>(),
          args.statistics.template as<float>(),
          args.s,
          args.c,
          args.groups,
          SharesOf(args.s),
          args.silu};
}

// x: share, y: group of a sample. shares[share,B*groups,2].
template <typename T>
__global__ void __launch_bounds__(kGroupNormThreads) GroupShares(double* shares, Norm<T> norm) {
  APTM_SHARED(double, of_thread, 2 * kGroupNormThreads);
  const std::int64_t sample = blockIdx.y / norm.groups, column = blockIdx.y % norm.groups * norm.Width();
  const std::int64_t begin = norm.Begin(blockIdx.x), rows = norm.Begin(blockIdx.x + 1) - begin;
  double sum = 0, squares = 0;
  for (std::int64_t i = threadIdx.x; i < rows * norm.Width(); i += kGroupNormThreads) {
    const std::int64_t row = sample * norm.s + begin + i / norm.Width();
    const double x = static_cast<double>(Widened(norm.x[row * norm.c + column + i % norm.Width()]));
    sum += x, squares += x * x;
  }
  of_thread[threadIdx.x] = sum, of_thread[kGroupNormThreads + threadIdx.x] = squares;
  for (unsigned by = kGroupNormThreads / 2; by > 0; by /= 2) {
    __syncthreads();  // what is added is there
    if (threadIdx.x >= by) continue;
    of_thread[threadIdx.x] += of_thread[threadIdx.x + by];
    of_thread[kGroupNormThreads + threadIdx.x] += of_thread[kGroupNormThreads + threadIdx.x + by];
  }
  if (threadIdx.x > 0) return;
  double* const to = shares + (static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y) * 2;
  to[0] = of_thread[0], to[1] = of_thread[kGroupNormThreads];
}

__global__ void __launch_bounds__(kGroupNormThreads)
    GroupStatistics(float* statistics, const double* shares, std::int64_t count, std::int64_t groups, double n,
                    double epsilon) {
  ForGroups<1>(groups, [&](std::int64_t group) {
    double sum = 0, squares = 0;
    for (std::int64_t share = 0; share < count; ++share) {
      sum += shares[(share * groups + group) * 2];
      squares += shares[(share * groups + group) * 2 + 1];
    }
    const double mean = sum / n, variance = squares / n - mean * mean;
    statistics[2 * group] = static_cast<float>(mean);
    statistics[2 * group + 1] = static_cast<float>(1.0 / sqrt((variance > 0 ? variance : 0) + epsilon));
  });
}

template <typename T>
__global__ void __launch_bounds__(kGroupNormThreads) GroupNorm(T* y, Norm<T> norm, std::int64_t n) {
  ForGroups<1>(n, [&](std::int64_t i) {
    const float a = norm.Affine(i, norm.Normed(i));
    StoreRounded(y + i, norm.silu ? a / (1.0f + expf(-a)) : a);
  });
}

// shares[share,B,2,C]: sums over a share's rows of da and of da n.
template <typename T>
__global__ void __launch_bounds__(kGroupNormThreads)
    GroupGradShares(float* shares, const T* dy, Norm<T> norm, std::int64_t samples) {
  ForGroups<1>(norm.shares * samples * norm.c, [&](std::int64_t at) {
    const std::int64_t share = at / (samples * norm.c), sample = at / norm.c % samples, column = at % norm.c;
    float sum = 0, along = 0;
    for (std::int64_t row = norm.Begin(share); row < norm.Begin(share + 1); ++row) {
      const std::int64_t i = (sample * norm.s + row) * norm.c + column;
      const float normed = norm.Normed(i), da = norm.Slope(i, normed, Widened(dy[i]));
      sum += da, along += da * normed;
    }
    float* const to = shares + (share * samples + sample) * 2 * norm.c + column;
    to[0] = sum, to[norm.c] = along;
  });
}

// means[B*groups,2]: the means of dn and of dn n.
template <typename T>
__global__ void __launch_bounds__(kGroupNormThreads)
    GroupGradMeans(float* means, const float* shares, Norm<T> norm, std::int64_t samples) {
  ForGroups<1>(samples * norm.groups, [&](std::int64_t group) {
    const std::int64_t first = group % norm.groups * norm.Width();
    double sum = 0, along = 0;
    for (std::int64_t share = 0; share < norm.shares; ++share) {
      const float* const from = shares + (share * samples + group / norm.groups) * 2 * norm.c;
      for (std::int64_t i = first; i < first + norm.Width(); ++i) {
        const double weight = static_cast<double>(Widened(norm.weight[i]));
        sum += static_cast<double>(from[i]) * weight;
        along += static_cast<double>(from[norm.c + i]) * weight;
      }
    }
    const double n = static_cast<double>(norm.s * norm.Width());
    means[2 * group] = static_cast<float>(sum / n), means[2 * group + 1] = static_cast<float>(along / n);
  });
}

template <typename T>
__global__ void __launch_bounds__(kGroupNormThreads)
    GroupNormGrad(T* dx, const T* dy, const float* means, Norm<T> norm, std::int64_t n) {
  ForGroups<1>(n, [&](std::int64_t i) {
    const std::int64_t group = norm.GroupOf(i);
    const float normed = norm.Normed(i), dn = norm.Slope(i, normed, Widened(dy[i])) * Widened(norm.weight[i % norm.c]);
    StoreRounded(dx + i, norm.statistics[2 * group + 1] * (dn - means[2 * group] - normed * means[2 * group + 1]));
  });
}

}  // namespace

std::int64_t WorkspaceBytes(const GroupNormArgs& args) {
  return SharesOf(args.s) * args.b * args.groups * 2 * static_cast<std::int64_t>(sizeof(double));
}

void LaunchGroupNorm(const GroupNormArgs& args, const LaunchContext& context) {
  double* const shares = reinterpret_cast<double*>(context.workspace);
  const std::int64_t count = SharesOf(args.s), groups = args.b * args.groups;
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(count), .y = static_cast<unsigned>(groups)},
                             .block = {.x = kGroupNormThreads}};
  const double n = static_cast<double>(args.s * args.c) / static_cast<double>(args.groups);
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const std::int64_t elements = args.b * args.s * args.c;
    Launch(shape, context, &GroupShares<T>, shares, NormOf<T>(args));
    Launch(Striding(groups, kGroupNormThreads), context, &GroupStatistics, args.statistics.as<float>(), shares, count,
           groups, n, static_cast<double>(args.epsilon));
    Launch(Striding(elements, kGroupNormThreads), context, &GroupNorm<T>, args.y.as<T>(), NormOf<T>(args), elements);
  });
}

std::int64_t WorkspaceBytes(const GroupNormGradArgs& args) {
  return (SharesOf(args.s) * args.b * 2 * args.c + args.b * args.groups * 2) * static_cast<std::int64_t>(sizeof(float));
}

void LaunchGroupNormGrad(const GroupNormGradArgs& args, const LaunchContext& context) {
  float* const shares = reinterpret_cast<float*>(context.workspace);
  const std::int64_t count = SharesOf(args.s) * args.b;
  float* const means = shares + count * 2 * args.c;
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    const std::int64_t elements = args.b * args.s * args.c;
    Launch(Striding(count * args.c, kGroupNormThreads), context, &GroupGradShares<T>, shares, args.dy.as<T>(),
           NormOf<T>(args), args.b);
    if (!args.dx) return;
    Launch(Striding(args.b * args.groups, kGroupNormThreads), context, &GroupGradMeans<T>, means, shares,
           NormOf<T>(args), args.b);
    Launch(Striding(elements, kGroupNormThreads), context, &GroupNormGrad<T>, args.dx.as<T>(), args.dy.as<T>(), means,
           NormOf<T>(args), elements);
  });
  LaunchAddShares(args.dbias, shares, count, 2 * args.c, args.c, args.accumulate_dweight, context);
  LaunchAddShares(args.dweight, shares + args.c, count, 2 * args.c, args.c, args.accumulate_dweight, context);
}

}  // namespace angel_ptm::cuda
