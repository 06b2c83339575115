// sum = x + delta, y = sum / rms(sum) * weight over rows of H, and the gradient: with n = sum * rstd and g = dy *
// weight,
//   dx = dsum + rstd (g - n mean(g n)),  dweight = sum over tokens of dy n.
//
// Bytes of elements per row: 4 H forward (3 H without delta; the row is read again from the cache), 4 H backward;
// FLOPs: about 5 H and 10 H. Limit: memory. A block of 256 threads handles a row. Backward it handles a fixed set of
// rows and keeps their share of dweight in shared memory, H fp32, where each column belongs to one thread. A second
// kernel adds the shares in order, so the bits depend on T and H alone. Workspace of the gradient: RowBlocks(T) * H
// fp32.
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/add_rms_norm.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kAddRmsNormThreads = 256;

// Calls fn(i) for the first element of each of this thread's groups of a row.
template <int kWidth, typename Fn>
APTM_DEVICE void ForRow(std::int64_t h, const Fn& fn) {
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kWidth; i < h; i += kAddRmsNormThreads * kWidth) fn(i);
}

struct Norm {
  std::int64_t h;
  float epsilon;
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kAddRmsNormThreads)
    AddRmsNorm(T* sum_TH, T* y_TH, float* rstd_T, const T* x_TH, const T* delta_TH, const T* weight_H, Norm norm) {
  const std::int64_t row = blockIdx.x * norm.h;
  float squares = 0;
  ForRow<kWidth>(norm.h, [&](std::int64_t i) {
    float x[kWidth];
    LoadGroup(x_TH + row + i, x);
    if (delta_TH != nullptr) {
      float delta[kWidth];
      LoadGroup(delta_TH + row + i, delta);
      for (int j = 0; j < kWidth; ++j) x[j] = AsStored(sum_TH, x[j] + delta[j]);
      StoreGroup(sum_TH + row + i, x);
    }
    for (int j = 0; j < kWidth; ++j) squares += x[j] * x[j];
  });
  const float rstd = 1.0f / sqrtf(BlockSum<kAddRmsNormThreads>(squares) / static_cast<float>(norm.h) + norm.epsilon);
  const T* const normed_TH = delta_TH == nullptr ? x_TH : sum_TH;
  ForRow<kWidth>(norm.h, [&](std::int64_t i) {
    float x[kWidth], weight[kWidth];
    LoadGroup(normed_TH + row + i, x);
    LoadGroup(weight_H + i, weight);
    for (int j = 0; j < kWidth; ++j) x[j] = weight[j] * (x[j] * rstd);
    StoreGroup(y_TH + row + i, x);
  });
  if (threadIdx.x == 0) rstd_T[blockIdx.x] = rstd;
}

template <typename T>
struct GradOperands {
  T* dx_TH;
  const T *dy_TH, *dsum_TH, *sum_TH, *weight_H;
  const float* rstd_T;
  float* partial_NH;
  std::int64_t t, h;
};

template <int kWidth, typename T>
APTM_DEVICE void InputGrad(const GradOperands<T>& args, std::int64_t row, float rstd, float dot) {
  const float along = dot * rstd * rstd / static_cast<float>(args.h);  // mean(g n) rstd, the factor of sum
  ForRow<kWidth>(args.h, [&](std::int64_t i) {
    float dy[kWidth], sum[kWidth], weight[kWidth], dsum[kWidth] = {};
    LoadGroup(args.dy_TH + row + i, dy);
    LoadGroup(args.sum_TH + row + i, sum);
    LoadGroup(args.weight_H + i, weight);
    if (args.dsum_TH != nullptr) LoadGroup(args.dsum_TH + row + i, dsum);
    for (int j = 0; j < kWidth; ++j) dsum[j] = rstd * (dy[j] * weight[j] - sum[j] * along) + dsum[j];
    StoreGroup(args.dx_TH + row + i, dsum);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kAddRmsNormThreads) AddRmsNormGrad(GradOperands<T> args) {
  APTM_DYNAMIC_SHARED(shared);
  float* const dweight_H = reinterpret_cast<float*>(shared);
  ForRow<kWidth>(args.h, [&](std::int64_t i) {
    for (int j = 0; j < kWidth; ++j) dweight_H[i + j] = 0;
  });
  for (std::int64_t token = blockIdx.x; token < args.t; token += gridDim.x) {
    const std::int64_t row = token * args.h;
    const float rstd = args.rstd_T[token];
    float dot = 0;
    ForRow<kWidth>(args.h, [&](std::int64_t i) {
      float dy[kWidth], sum[kWidth], weight[kWidth];
      LoadGroup(args.dy_TH + row + i, dy);
      LoadGroup(args.sum_TH + row + i, sum);
      LoadGroup(args.weight_H + i, weight);
      for (int j = 0; j < kWidth; ++j) {
        dweight_H[i + j] += dy[j] * (sum[j] * rstd);
        dot += dy[j] * weight[j] * sum[j];
      }
    });
    if (args.dx_TH != nullptr) InputGrad<kWidth>(args, row, rstd, BlockSum<kAddRmsNormThreads>(dot));
  }
  ForRow<kWidth>(args.h, [&](std::int64_t i) {
    for (int j = 0; j < kWidth; ++j) args.partial_NH[blockIdx.x * args.h + i + j] = dweight_H[i + j];
  });
}

}  // namespace

void LaunchAddRmsNorm(const AddRmsNormArgs& args, const LaunchContext& context) {
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(args.t)}, .block = {.x = kAddRmsNormThreads}};
  WithVariant(args.y.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    Launch(shape, context, &AddRmsNorm<decltype(group)::kWidth, T>, args.sum.as<T>(), args.y.as<T>(),
           args.rstd.as<float>(), args.x.as<T>(), args.delta.as<T>(), args.weight.as<T>(), Norm{args.h, args.epsilon});
  });
}

std::int64_t WorkspaceBytes(const AddRmsNormGradArgs& args) {
  return RowBlocks(args.t) * args.h * static_cast<std::int64_t>(sizeof(float));
}

void LaunchAddRmsNormGrad(const AddRmsNormGradArgs& args, const LaunchContext& context) {
  const std::int64_t blocks = RowBlocks(args.t);
  float* const partial_NH = reinterpret_cast<float*>(context.workspace);
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(blocks)},
                             .block = {.x = kAddRmsNormThreads},
                             .shared_bytes = static_cast<std::size_t>(args.h) * sizeof(float)};
  WithVariant(args.dy.dtype, args.h, [&](auto element, auto group) {
    using T = decltype(element);
    const GradOperands<T> operands = {args.dx.as<T>(),
                                      args.dy.as<T>(),
                                      args.dsum.as<T>(),
                                      args.sum.as<T>(),
                                      args.weight.as<T>(),
                                      args.rstd.as<float>(),
                                      partial_NH,
                                      args.t,
                                      args.h};
    Launch(shape, context, &AddRmsNormGrad<decltype(group)::kWidth, T>, operands);
  });
  LaunchAddShares(args.dweight, partial_NH, blocks, args.h, args.h, args.accumulate_dweight, context);
}

}  // namespace angel_ptm::cuda
