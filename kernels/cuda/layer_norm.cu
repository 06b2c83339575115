// y = a (1 + scale) + shift with a = n weight + bias and n = (x - mean) rstd over rows of H, where each sample has its
// own scale and shift (kernels/ops/layer_norm.h), and the gradient: with dn = dy weight (1 + scale),
//   dx = dsum + rstd (dn - mean(dn) - n mean(dn n));   dshift = sum of dy,  dscale = sum of dy (n weight + bias) over
//   the sample's rows;   dweight (+)= sum over samples of (1 + scale) sum of dy n,  dbias likewise of dy.
//
// Bytes of elements per row: 2 H forward, 3 H backward and 2 H again for the sums; FLOPs: about 8 H and 20 H. Limit:
// memory; a row is read again from the cache. A block of 256 threads handles a row. One thread sums each column over a
// sample's rows, in order; another launch adds the samples' sums in order. Workspace of the gradient: 2 B H fp32.
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/layer_norm.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kLayerNormThreads = 256;

// Null pointers stand for ones and zeros.
template <typename T>
struct Affine {
  const T *weight_H, *bias_H, *modulation;
  std::int64_t width, shift_at, scale_at, s, h;

  APTM_DEVICE float Scale(std::int64_t sample, std::int64_t i) const {
    if (modulation == nullptr || scale_at < 0) return 1.0f;
    return 1.0f + Widened(modulation[sample * width + scale_at + i]);
  }
  APTM_DEVICE float Weight(std::int64_t i) const { return weight_H == nullptr ? 1.0f : Widened(weight_H[i]); }
  APTM_DEVICE float Bias(std::int64_t i) const { return bias_H == nullptr ? 0.0f : Widened(bias_H[i]); }
  APTM_DEVICE float Shift(std::int64_t sample, std::int64_t i) const {
    return modulation == nullptr || shift_at < 0 ? 0.0f : Widened(modulation[sample * width + shift_at + i]);
  }
};
template <typename T, typename Args>
Affine<T> AffineOf(const Args& args) {
  return {args.weight.template as<T>(),
          args.bias.template as<T>(),
          args.modulation.template as<T>(),
          args.modulation_width,
          args.shift_at,
          args.scale_at,
          args.s,
          args.h};
}

// The sum over a row of fn(i), in every thread.
template <typename Fn>
APTM_DEVICE float RowSum(std::int64_t h, const Fn& fn) {
  float sum = 0;
  for (std::int64_t i = threadIdx.x; i < h; i += kLayerNormThreads) sum += fn(i);
  return BlockSum<kLayerNormThreads>(sum);
}

template <typename T>
__global__ void __launch_bounds__(kLayerNormThreads)
    LayerNorm(T* y_TH, float* statistics, const T* x_TH, Affine<T> affine, float epsilon) {
  const std::int64_t token = blockIdx.x, sample = token / affine.s, h = affine.h;
  const T* const x_H = x_TH + token * h;
  const float mean = RowSum(h, [&](std::int64_t i) { return Widened(x_H[i]); }) / static_cast<float>(h);
  const float square = RowSum(h, [&](std::int64_t i) {
    const float centered = Widened(x_H[i]) - mean;
    return centered * centered;
  });
  const float rstd = 1.0f / sqrtf(square / static_cast<float>(h) + epsilon);
  for (std::int64_t i = threadIdx.x; i < h; i += kLayerNormThreads) {
    const float scale = affine.Scale(sample, i);
    const float offset = affine.Bias(i) * scale + affine.Shift(sample, i);
    StoreRounded(y_TH + token * h + i, (Widened(x_H[i]) - mean) * rstd * (affine.Weight(i) * scale) + offset);
  }
  if (threadIdx.x == 0) statistics[2 * token] = mean, statistics[2 * token + 1] = rstd;
}

template <typename T>
__global__ void __launch_bounds__(kLayerNormThreads)
    LayerNormGrad(T* dx_TH, const T* dy_TH, const T* dsum_TH, const T* x_TH, const float* statistics,
                  Affine<T> affine) {
  const std::int64_t token = blockIdx.x, sample = token / affine.s, h = affine.h, row = token * h;
  const float mean = statistics[2 * token], rstd = statistics[2 * token + 1];
  const auto normed = [&](std::int64_t i) { return (Widened(x_TH[row + i]) - mean) * rstd; };
  const auto dnormed = [&](std::int64_t i) {
    return Widened(dy_TH[row + i]) * (affine.Weight(i) * affine.Scale(sample, i));
  };
  const float width = static_cast<float>(h);
  const float mean_dn = RowSum(h, dnormed) / width;
  const float along = RowSum(h, [&](std::int64_t i) { return dnormed(i) * normed(i); }) / width;
  for (std::int64_t i = threadIdx.x; i < h; i += kLayerNormThreads) {
    const float dx = rstd * (dnormed(i) - mean_dn - normed(i) * along);
    StoreRounded(dx_TH + row + i, dsum_TH == nullptr ? dx : dx + Widened(dsum_TH[row + i]));
  }
}

// sums[B,2,H]: the sums over a sample's rows of dy and of dy n, times 1 + scale as the gradients of the parameters need
// them; also writes the sample's dmodulation.
template <typename T>
__global__ void __launch_bounds__(kLayerNormThreads)
    SampleGrads(float* sums, T* dmodulation, const T* dy_TH, const T* x_TH, const float* statistics, Affine<T> affine,
                std::int64_t samples) {
  const std::int64_t h = affine.h;
  ForGroups<1>(samples * h, [&](std::int64_t at) {
    const std::int64_t sample = at / h, i = at % h;
    float dy_sum = 0, dy_n = 0;
    for (std::int64_t token = sample * affine.s; token < (sample + 1) * affine.s; ++token) {
      const float dy = Widened(dy_TH[token * h + i]);
      dy_sum += dy;
      dy_n += dy * ((Widened(x_TH[token * h + i]) - statistics[2 * token]) * statistics[2 * token + 1]);
    }
    sums[2 * sample * h + i] = dy_sum * affine.Scale(sample, i);
    sums[(2 * sample + 1) * h + i] = dy_n * affine.Scale(sample, i);
    if (dmodulation == nullptr) return;
    T* const of_sample = dmodulation + sample * affine.width;
    if (affine.shift_at >= 0) StoreRounded(of_sample + affine.shift_at + i, dy_sum);
    if (affine.scale_at >= 0) {
      StoreRounded(of_sample + affine.scale_at + i, dy_n * affine.Weight(i) + dy_sum * affine.Bias(i));
    }
  });
}

}  // namespace

void LaunchLayerNorm(const LayerNormArgs& args, const LaunchContext& context) {
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(args.b * args.s)}, .block = {.x = kLayerNormThreads}};
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(shape, context, &LayerNorm<T>, args.y.as<T>(), args.statistics.as<float>(), args.x.as<T>(),
           AffineOf<T>(args), args.epsilon);
  });
}

std::int64_t WorkspaceBytes(const LayerNormGradArgs& args) {
  return 2 * args.b * args.h * static_cast<std::int64_t>(sizeof(float));
}

void LaunchLayerNormGrad(const LayerNormGradArgs& args, const LaunchContext& context) {
  float* const sums = reinterpret_cast<float*>(context.workspace);
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(args.b * args.s)}, .block = {.x = kLayerNormThreads}};
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    if (args.dx) {
      Launch(shape, context, &LayerNormGrad<T>, args.dx.as<T>(), args.dy.as<T>(), args.dsum.as<T>(), args.x.as<T>(),
             args.statistics.as<float>(), AffineOf<T>(args));
    }
    if (!args.dweight && !args.dbias && !args.dmodulation) return;
    Launch(Striding(args.b * args.h, kLayerNormThreads), context, &SampleGrads<T>, sums, args.dmodulation.as<T>(),
           args.dy.as<T>(), args.x.as<T>(), args.statistics.as<float>(), AffineOf<T>(args), args.b);
  });
  LaunchAddShares(args.dbias, sums, args.b, 2 * args.h, args.h, args.accumulate_dweight, context);
  LaunchAddShares(args.dweight, sums + args.h, args.b, 2 * args.h, args.h, args.accumulate_dweight, context);
}

}  // namespace angel_ptm::cuda
