// Heads of a wider matrix, normed and rotated (kernels/ops/norm_rope.h), and the gradient: with n = (x - mean) rstd
// (the mean for LayerNorm only), da = R^T dy and g = da weight,
//   y = R (n weight + bias);   dx = rstd (g - mean(g) - n mean(g n)),  dweight = sum of da n,  dbias = sum of da.
//
// Bytes of elements per token: 2 N D forward, 3 N D backward; FLOPs: about 15 and 30 per pair. Limit: memory. A warp
// handles a head, a lane every 32nd pair. Backward a block handles a fixed set of tokens, keeps its shares of the
// parameters' gradients in registers and adds them warp by warp; another launch adds the blocks' shares in order.
// Workspace of the gradient: RowBlocks(T) * 2 D fp32.
#include "kernels/cuda/head_pairs.cuh"
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/norm_rope.h"

namespace angel_ptm::cuda {
namespace {

struct Heads {
  std::int64_t t, x_stride, p;
  int heads, half;
  bool layer_norm, interleaved;
  float epsilon;
  const float* cos_sin;  // null: no rotation

  APTM_DEVICE Pairs Turned(const Pairs& x, std::int64_t token, float sine) const {
    return cos_sin == nullptr ? x : cuda::Turned(x, cos_sin + token % p * 2 * half, half, sine);
  }
};
template <typename Args>
Heads HeadsOf(const Args& args) {
  return {
      args.t,          args.x_stride,    args.p,       static_cast<int>(args.heads),     static_cast<int>(args.d / 2),
      args.layer_norm, args.interleaved, args.epsilon, args.cos_sin.template as<float>()};
}

// x becomes n; returns the factor that the (centred) x was multiplied by.
APTM_DEVICE float Normalize(Pairs& x, const Heads& heads) {
  const int lane = threadIdx.x % kWarpLanes;
  const float d = static_cast<float>(2 * heads.half);
  const float mean = heads.layer_norm ? SumOfHead([&](int j) { return x.first[j] + x.second[j]; }) / d : 0.0f;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    const float taken = lane + j * kWarpLanes < heads.half ? mean : 0.0f;
    x.first[j] -= taken;
    x.second[j] -= taken;
  }
  const float squares = SumOfHead([&](int j) { return x.first[j] * x.first[j] + x.second[j] * x.second[j]; });
  const float rstd = 1.0f / sqrtf(squares / d + heads.epsilon);
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    x.first[j] *= rstd;
    x.second[j] *= rstd;
  }
  return rstd;
}

template <typename T>
__global__ void __launch_bounds__(kHeadThreads)
    NormRope(T* y, const T* x, const T* weight_D, const T* bias_D, Heads heads) {
  const int half = heads.half;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kHeadWarps;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kHeadWarps + threadIdx.x / kWarpLanes;
       i < heads.t * heads.heads; i += step) {
    const std::int64_t token = i / heads.heads, at = token * heads.x_stride + i % heads.heads * 2 * half;
    Pairs n = LoadPairs(x + at, half, heads.interleaved), bias = {};
    Normalize(n, heads);
    const Pairs weight = LoadPairs(weight_D, half, heads.interleaved);
    if (bias_D != nullptr) bias = LoadPairs(bias_D, half, heads.interleaved);
    APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
      n.first[j] = n.first[j] * weight.first[j] + bias.first[j];
      n.second[j] = n.second[j] * weight.second[j] + bias.second[j];
    }
    StorePairs(y + i * 2 * half, heads.Turned(n, token, 1.0f), half, heads.interleaved);
  }
}

template <typename T>
struct GradOperands {
  T* dx;
  const T *dy, *x, *weight_D;
  float* shares;  // [RowBlocks,2,D]
};

template <typename T>
__global__ void __launch_bounds__(kHeadThreads) NormRopeGrad(GradOperands<T> args, Heads heads) {
  const int half = heads.half, d = 2 * half;
  Pairs dweight = {}, dbias = {};
  const Pairs weight = LoadPairs(args.weight_D, half, heads.interleaved);
  for (std::int64_t token = blockIdx.x; token < heads.t; token += gridDim.x) {
    for (int head = static_cast<int>(threadIdx.x) / kWarpLanes; head < heads.heads; head += kHeadWarps) {
      const std::int64_t at = token * heads.x_stride + head * d;
      Pairs n = LoadPairs(args.x + at, half, heads.interleaved);
      const float rstd = Normalize(n, heads);
      const T* const dy = args.dy + (token * heads.heads + head) * d;
      Pairs g = heads.Turned(LoadPairs(dy, half, heads.interleaved), token, -1.0f);
      APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
        dweight.first[j] += g.first[j] * n.first[j];
        dweight.second[j] += g.second[j] * n.second[j];
        dbias.first[j] += g.first[j];
        dbias.second[j] += g.second[j];
        g.first[j] *= weight.first[j];
        g.second[j] *= weight.second[j];
      }
      if (args.dx == nullptr) continue;
      const float width = static_cast<float>(d);
      const float mean = heads.layer_norm ? SumOfHead([&](int j) { return g.first[j] + g.second[j]; }) / width : 0.0f;
      const float along = SumOfHead([&](int j) { return g.first[j] * n.first[j] + g.second[j] * n.second[j]; }) / width;
      APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
        g.first[j] = rstd * (g.first[j] - mean - n.first[j] * along);
        g.second[j] = rstd * (g.second[j] - mean - n.second[j] * along);
      }
      StorePairs(args.dx + at, g, half, heads.interleaved);
    }
  }
  float* const share = args.shares + static_cast<std::int64_t>(blockIdx.x) * 2 * d;
  AddWarps(share, dweight, half, heads.interleaved);
  AddWarps(share + d, dbias, half, heads.interleaved);
}

}  // namespace

void LaunchNormRope(const NormRopeArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding(args.t * args.heads * kWarpLanes, kHeadThreads), context, &NormRope<T>, args.y.as<T>(),
           args.x.as<T>(), args.weight.as<T>(), args.bias.as<T>(), HeadsOf(args));
  });
}

std::int64_t WorkspaceBytes(const NormRopeGradArgs& args) {
  return RowBlocks(args.t) * 2 * args.d * static_cast<std::int64_t>(sizeof(float));
}

void LaunchNormRopeGrad(const NormRopeGradArgs& args, const LaunchContext& context) {
  const std::int64_t blocks = RowBlocks(args.t), d = args.d;
  float* const shares = reinterpret_cast<float*>(context.workspace);
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(blocks)},
                             .block = {.x = kHeadThreads},
                             .shared_bytes = static_cast<std::size_t>(kHeadWarps * d) * sizeof(float)};
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const GradOperands<T> operands = {args.dx.as<T>(), args.dy.as<T>(), args.x.as<T>(), args.weight.as<T>(), shares};
    Launch(shape, context, &NormRopeGrad<T>, operands, HeadsOf(args));
  });
  LaunchAddShares(args.dweight, shares, blocks, 2 * d, d, args.accumulate_dweight, context);
  LaunchAddShares(args.dbias, shares + d, blocks, 2 * d, d, args.accumulate_dweight, context);
}

}  // namespace angel_ptm::cuda
