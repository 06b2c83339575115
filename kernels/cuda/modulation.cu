// What diffusion transformers compute on rows besides products, attention and norms (kernels/ops): a sample's gate
// times a row added to another row, rows added repeatedly, means over a sample's rows, and the loss; with their
// gradients. T is B samples of S rows.
//   gated_add: y = x + gate delta (x: none); ddelta = gate dy,  dgate = sum over the sample's rows of dy delta
//   add_rows: y[t] = x[t] + rows[t % P];  drows[p] (+)= sum of the dy[t] with t % P = p
//   mean_pool: y[b] = mean of the first counts[b] rows;  dx = dy / counts[b] there, 0 elsewhere
//   weighted_mse: loss[b] = weight[b] mean((x - target)^2);  dx = 2 weight[b] (x - target) / N
//
// Bytes of elements: each operand once; FLOPs: 1 to 3 per element. Limit: memory. Elementwise ops handle 8 neighbours
// per thread if rows allow it. One thread sums each column over a sample's rows, in order. The sum of add_rows's
// gradient, which may be over all tokens, is cut into a number of shares that depends on the shape alone; another
// launch adds them in order. Workspace of this gradient: RowShares * P H fp32. One block computes a sample's loss; the
// shares of its threads are added in order in double.
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/add_rows.h"
#include "kernels/ops/gated_add.h"
#include "kernels/ops/mean_pool.h"
#include "kernels/ops/weighted_mse.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kModulationThreads = 256;

// Columns of a wider matrix with one row per sample.
template <typename T>
struct OfSamples {
  T* data;
  std::int64_t width, rows, h;  // rows: tokens per sample

  // The element for the sample and column of element i of [T,H].
  APTM_DEVICE T* At(std::int64_t i) const { return data + i / (rows * h) * width + i % h; }
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kModulationThreads)
    GatedAdd(T* y, const T* x, const T* delta, OfSamples<const T> gates, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    float sum[kWidth], added[kWidth], gate[kWidth];
    for (int j = 0; j < kWidth; ++j) sum[j] = 0;
    if (x != nullptr) LoadGroup(x + i, sum);
    LoadGroup(delta + i, added);
    LoadGroup(gates.At(i), gate);
    for (int j = 0; j < kWidth; ++j) sum[j] += gate[j] * added[j];
    StoreGroup(y + i, sum);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kModulationThreads)
    GatedAddGrad(T* ddelta, const T* dy, OfSamples<const T> gates, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    float grad[kWidth], gate[kWidth];
    LoadGroup(dy + i, grad);
    LoadGroup(gates.At(i), gate);
    for (int j = 0; j < kWidth; ++j) grad[j] *= gate[j];
    StoreGroup(ddelta + i, grad);
  });
}

// One thread per gate; there are B H of them.
template <typename T>
__global__ void __launch_bounds__(kModulationThreads)
    GateGrad(OfSamples<T> dgates, const T* dy, const T* delta, std::int64_t samples) {
  const std::int64_t h = dgates.h;
  ForGroups<1>(samples * h, [&](std::int64_t i) {
    const std::int64_t sample = i / h, first = sample * dgates.rows * h + i % h;
    float sum = 0;
    for (std::int64_t row = 0; row < dgates.rows; ++row) {
      sum += Widened(dy[first + row * h]) * Widened(delta[first + row * h]);
    }
    StoreRounded(dgates.data + sample * dgates.width + i % h, sum);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kModulationThreads)
    AddRows(T* y, const T* x, const T* rows, std::int64_t n, std::int64_t repeated) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    float sum[kWidth], row[kWidth];
    LoadGroup(x + i, sum);
    LoadGroup(rows + i % repeated, row);
    for (int j = 0; j < kWidth; ++j) sum[j] += row[j];
    StoreGroup(y + i, sum);
  });
}

// shares[count,width]: share s is the sum of its part of the `rows` rows of dy[rows,width].
template <typename T>
__global__ void __launch_bounds__(kModulationThreads)
    SumRows(float* shares, const T* dy, std::int64_t rows, std::int64_t width, std::int64_t count) {
  const std::int64_t of_share = (rows + count - 1) / count;
  ForGroups<1>(count * width, [&](std::int64_t i) {
    const std::int64_t begin = i / width * of_share, end = begin + of_share < rows ? begin + of_share : rows;
    float sum = 0;
    for (std::int64_t row = begin; row < end; ++row) sum += Widened(dy[row * width + i % width]);
    shares[i] = sum;
  });
}

struct Pool {
  const std::int32_t* counts;
  std::int64_t b, s, h;

  APTM_DEVICE std::int64_t Count(std::int64_t sample) const { return counts == nullptr ? s : counts[sample]; }
};

template <typename T>
__global__ void __launch_bounds__(kModulationThreads) MeanPool(T* y, const T* x, Pool pool) {
  ForGroups<1>(pool.b * pool.h, [&](std::int64_t i) {
    const std::int64_t sample = i / pool.h, count = pool.Count(sample);
    const T* const from = x + sample * pool.s * pool.h + i % pool.h;
    float sum = 0;
    for (std::int64_t row = 0; row < count; ++row) sum += Widened(from[row * pool.h]);
    StoreRounded(y + i, sum / static_cast<float>(count));
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kModulationThreads) MeanPoolGrad(T* dx, const T* dy, Pool pool) {
  ForGroups<kWidth>(pool.b * pool.s * pool.h, [&](std::int64_t i) {
    const std::int64_t token = i / pool.h, sample = token / pool.s, count = pool.Count(sample);
    float grad[kWidth] = {};
    if (token % pool.s < count) {
      LoadGroup(dy + sample * pool.h + i % pool.h, grad);
      for (int j = 0; j < kWidth; ++j) grad[j] /= static_cast<float>(count);
    }
    StoreGroup(dx + i, grad);
  });
}

template <typename T>
__global__ void __launch_bounds__(kModulationThreads)
    WeightedMse(float* sample_loss, T* dx, const T* x, const float* target, const float* weights, std::int64_t n) {
  APTM_SHARED(double, shares, kModulationThreads);
  const std::int64_t first = blockIdx.x * n;
  const double weight = static_cast<double>(weights[blockIdx.x]), count = static_cast<double>(n);
  const float slope = static_cast<float>(2 * weight / count);
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kModulationThreads) {
    const float difference = Widened(x[first + i]) - target[first + i];
    sum += static_cast<double>(difference) * static_cast<double>(difference);
    if (dx != nullptr) StoreRounded(dx + first + i, slope * difference);
  }
  shares[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kModulationThreads; ++i) sum += shares[i];
  sample_loss[blockIdx.x] = static_cast<float>(weight * sum / count);
}

// The number of shares, which depends on the shape alone: with few columns, more threads sum each column.
std::int64_t RowShares(const AddRowsGradArgs& args) {
  constexpr std::int64_t kSharesMax = 64, kShareRows = 16, kManyColumns = 1 << 16;
  if (args.p * args.h >= kManyColumns) return 1;
  const std::int64_t shares = (args.t / args.p + kShareRows - 1) / kShareRows;
  return shares < kSharesMax ? shares : kSharesMax;
}

}  // namespace

void LaunchGatedAdd(const GatedAddArgs& args, const LaunchContext& context) {
  const std::int64_t n = args.b * args.s * args.h;
  WithElements(args.y.dtype, [&](auto element) {
    using T = decltype(element);
    const OfSamples<const T> gates = {args.modulation.as<T>() + args.gate_at, args.modulation_width, args.s, args.h};
    WithGroups(
        [&](auto group) {
          constexpr int kWidth = decltype(group)::kWidth;
          Launch(Striding(n / kWidth, kModulationThreads), context, &GatedAdd<kWidth, T>, args.y.as<T>(),
                 args.x.as<T>(), args.delta.as<T>(), gates, n);
        },
        args.h, args.gate_at, args.modulation_width);
  });
}

void LaunchGatedAddGrad(const GatedAddGradArgs& args, const LaunchContext& context) {
  const std::int64_t n = args.b * args.s * args.h;
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    const OfSamples<const T> gates = {args.modulation.as<T>() + args.gate_at, args.modulation_width, args.s, args.h};
    const auto launch = [&](auto group) {
      constexpr int kWidth = decltype(group)::kWidth;
      Launch(Striding(n / kWidth, kModulationThreads), context, &GatedAddGrad<kWidth, T>, args.ddelta.as<T>(),
             args.dy.as<T>(), gates, n);
    };
    if (args.ddelta) WithGroups(launch, args.h, args.gate_at, args.modulation_width);
    if (!args.dmodulation) return;
    const OfSamples<T> dgates = {args.dmodulation.as<T>() + args.gate_at, args.modulation_width, args.s, args.h};
    Launch(Striding(args.b * args.h, kModulationThreads), context, &GateGrad<T>, dgates, args.dy.as<T>(),
           args.delta.as<T>(), args.b);
  });
}

void LaunchAddRows(const AddRowsArgs& args, const LaunchContext& context) {
  WithVariant(args.x.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.t * args.h / kWidth, kModulationThreads), context, &AddRows<kWidth, T>, args.y.as<T>(),
           args.x.as<T>(), args.rows.as<T>(), args.t * args.h, args.p * args.h);
  });
}

std::int64_t WorkspaceBytes(const AddRowsGradArgs& args) {
  return RowShares(args) * args.p * args.h * static_cast<std::int64_t>(sizeof(float));
}

void LaunchAddRowsGrad(const AddRowsGradArgs& args, const LaunchContext& context) {
  float* const shares = reinterpret_cast<float*>(context.workspace);
  const std::int64_t width = args.p * args.h, count = RowShares(args);
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding(count * width, kModulationThreads), context, &SumRows<T>, shares, args.dy.as<T>(), args.t / args.p,
           width, count);
  });
  LaunchAddShares(args.drows, shares, count, width, width, args.accumulate, context);
}

void LaunchMeanPool(const MeanPoolArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding(args.b * args.h, kModulationThreads), context, &MeanPool<T>, args.y.as<T>(), args.x.as<T>(),
           Pool{args.counts, args.b, args.s, args.h});
  });
}

void LaunchMeanPoolGrad(const MeanPoolGradArgs& args, const LaunchContext& context) {
  WithVariant(args.dy.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.b * args.s * args.h / kWidth, kModulationThreads), context, &MeanPoolGrad<kWidth, T>,
           args.dx.as<T>(), args.dy.as<T>(), Pool{args.counts, args.b, args.s, args.h});
  });
}

void LaunchWeightedMse(const WeightedMseArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch({.grid = {.x = static_cast<unsigned>(args.b)}, .block = {.x = kModulationThreads}}, context, &WeightedMse<T>,
           args.sample_loss.as<float>(), args.dx.as<T>(), args.x.as<T>(), args.target.as<float>(),
           args.weight.as<float>(), args.n);
  });
}

}  // namespace angel_ptm::cuda
