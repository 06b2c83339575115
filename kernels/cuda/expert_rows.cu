// Moves tokens to the rows of their experts and back: dispatch, combine and their gradients.
//   rows[r] = x[token of r], zero in padding rows;           dx[t] (+)= sum over choices of drows[row], in order
//   y[t] = base[t] + sum over choices of weight rows[row];   drows[r] = weight dy[t], dweights = dot(dy[t], rows[r])
//
// Choices without a row (of experts that are not laid out) add nothing; a preceding launch sets their dweights to zero.
//
// Bytes of elements, with R rows in use: dispatch 2 R H; its gradient (K + 1) T H, combine (K + 2) T H, its gradient
// 3 R H; FLOPs: at most 4 R H. Limit: memory. A thread handles 8 neighbours at a time if H allows it; the grid strides.
// The gradient of combine uses one block per row, for its dot product. Sums over choices are in order and rounded once.
// The bits are the host's, except those of the dot product, which is added in another order, fixed by H.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/add.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kExpertRowsThreads = 256;

struct RowsInUse {
  const std::int32_t *pair_of_row, *active_blocks;
  std::int64_t block_rows;
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kExpertRowsThreads)
    Dispatch(T* rows_RH, const T* x_TH, RowsInUse rows, std::int64_t h, std::int64_t k) {
  ForGroups<kWidth>(*rows.active_blocks * rows.block_rows * h, [&](std::int64_t i) {
    const std::int32_t pair = rows.pair_of_row[i / h];
    float values[kWidth] = {};
    if (pair >= 0) LoadGroup(x_TH + pair / k * h + i % h, values);
    StoreGroup(rows_RH + i, values);
  });
}

// The gradient of dispatch (no weights) and combine, each with or without a base.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kExpertRowsThreads)
    SumChoices(T* y_TH, const T* base_TH, const T* rows_RH, const float* weights, const std::int32_t* row_of_pair,
               std::int64_t t, std::int64_t h, std::int64_t k) {
  ForGroups<kWidth>(t * h, [&](std::int64_t i) {
    const std::int64_t token = i / h, column = i % h;
    float sum[kWidth] = {}, row[kWidth];
    if (base_TH != nullptr) LoadGroup(base_TH + i, sum);
    // In a gradient without a base the first row starts the sum: 0 + x would lose the sign of a zero.
    bool adds = base_TH != nullptr || weights != nullptr;
    for (std::int64_t choice = 0; choice < k; ++choice) {
      const std::int64_t pair = token * k + choice, at = row_of_pair[pair];
      if (at < 0) continue;
      LoadGroup(rows_RH + at * h + column, row);
      for (int j = 0; j < kWidth; ++j) {
        const float term = weights == nullptr ? row[j] : weights[pair] * row[j];
        sum[j] = adds ? sum[j] + term : term;
      }
      adds = true;
    }
    StoreGroup(y_TH + i, sum);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kExpertRowsThreads)
    CombineGrad(T* drows_RH, float* dweights, const T* dy_TH, const T* rows_RH, const float* weights, RowsInUse rows,
                std::int64_t h, std::int64_t k) {
  const std::int64_t in_use = *rows.active_blocks * rows.block_rows;
  for (std::int64_t r = blockIdx.x; r < in_use; r += gridDim.x) {
    const std::int32_t pair = rows.pair_of_row[r];
    const float weight = pair < 0 ? 0.0f : weights[pair];
    float dot = 0;
    for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kWidth; i < h; i += kExpertRowsThreads * kWidth) {
      float dy[kWidth] = {}, row[kWidth];
      if (pair >= 0) {
        LoadGroup(dy_TH + pair / k * h + i, dy);
        LoadGroup(rows_RH + r * h + i, row);
        for (int j = 0; j < kWidth; ++j) {
          dot += dy[j] * row[j];
          dy[j] = weight * dy[j];
        }
      }
      StoreGroup(drows_RH + r * h + i, dy);
    }
    dot = BlockSum<kExpertRowsThreads>(dot);
    if (threadIdx.x == 0 && pair >= 0) dweights[pair] = dot;
  }
}

}  // namespace

void LaunchDispatch(const DispatchArgs& args, const LaunchContext& context) {
  WithVariant(args.x.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.blocks_max * args.block_rows * args.h / kWidth, kExpertRowsThreads), context,
           &Dispatch<kWidth, T>, args.rows.as<T>(), args.x.as<T>(),
           RowsInUse{args.pair_of_row, args.active_blocks, args.block_rows}, args.h, args.k);
  });
}

void LaunchDispatchGrad(const DispatchGradArgs& args, const LaunchContext& context) {
  WithVariant(args.dx.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.t * args.h / kWidth, kExpertRowsThreads), context, &SumChoices<kWidth, T>, args.dx.as<T>(),
           args.accumulate ? args.dx.as<T>() : nullptr, args.drows.as<T>(), nullptr, args.row_of_pair, args.t, args.h,
           args.k);
  });
}

void LaunchCombine(const CombineArgs& args, const LaunchContext& context) {
  WithVariant(args.y.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.t * args.h / kWidth, kExpertRowsThreads), context, &SumChoices<kWidth, T>, args.y.as<T>(),
           args.base.as<T>(), args.rows.as<T>(), args.weights.as<float>(), args.row_of_pair, args.t, args.h, args.k);
  });
}

void LaunchCombineGrad(const CombineGradArgs& args, const LaunchContext& context) {
  AddArgs zero;  // not every pair has a row
  zero.y = args.dweights, zero.rows = args.t, zero.width = args.k;
  LaunchAdd(zero, context);
  const LaunchShape shape = Striding(args.blocks_max * args.block_rows * kExpertRowsThreads, kExpertRowsThreads);
  WithVariant(args.dy.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(shape, context, &CombineGrad<kWidth, T>, args.drows.as<T>(), args.dweights.as<float>(), args.dy.as<T>(),
           args.rows.as<T>(), args.weights.as<float>(),
           RowsInUse{args.pair_of_row, args.active_blocks, args.block_rows}, args.h, args.k);
  });
}

}  // namespace angel_ptm::cuda
