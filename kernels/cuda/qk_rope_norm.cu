// Queries and keys rotated by their positions, then normed, and the gradient (kernels/ops/qk_rope_norm.h). With R the
// rotation of pairs (i, i + D/2), n = R x rstd and g = dy weight:
//   y = n weight;   dx = R^T (rstd (g - n mean(g n))),  dweight = sum over tokens and heads of dy n.
// Also the table of angles: cos and sin of position * base^(-2i/D).
//
// Bytes of elements per token: 2 (Q + G) D forward, 3 (Q + G) D backward; FLOPs: about 10 and 20 per pair. Limit:
// memory. A warp handles a head, a lane every 32nd pair. Backward a block handles a fixed set of tokens, keeps its
// shares of the weights' gradients in registers and adds them warp by warp; another launch adds the blocks' shares in
// order. Workspace of the gradient: RowBlocks(T) * 2 D fp32. The table's angles are reduced, and their cos and sin
// computed, in double.
#include <cmath>

#include "kernels/cuda/head_pairs.cuh"
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/rope_table.h"

namespace angel_ptm::cuda {
namespace {

struct Frequencies {
  float of_pair[kHeadDimMax / 2];
};

__global__ void __launch_bounds__(kHeadThreads)
    RopeTable(float* cos_sin, const std::int32_t* positions, Frequencies frequencies, std::int64_t t, int half) {
  constexpr double kOverPi = 0.318309886183790671538;
  ForGroups<1>(t * half, [&](std::int64_t i) {
    const float angle = static_cast<float>(positions[i / half]) * frequencies.of_pair[i % half];
    const double half_turns = static_cast<double>(angle) * kOverPi;
    const double within = half_turns - 2.0 * rint(0.5 * half_turns);
    cos_sin[2 * i] = static_cast<float>(cospi(within));
    cos_sin[2 * i + 1] = static_cast<float>(sinpi(within));
  });
}

struct QkHeads {
  std::int64_t t;
  int q_heads, kv_heads, half;
  float epsilon;
};

template <typename T>
struct ForwardOperands {
  T *q, *k;
  float *q_rstd, *k_rstd;
  const T *qkv, *q_weight, *k_weight;
  const float* cos_sin;
};

template <typename T>
__global__ void __launch_bounds__(kHeadThreads) QkRopeNorm(ForwardOperands<T> args, QkHeads heads) {
  const int half = heads.half, d = 2 * half, normed = heads.q_heads + heads.kv_heads;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kHeadWarps;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kHeadWarps + threadIdx.x / kWarpLanes;
       i < heads.t * normed; i += step) {
    const std::int64_t token = i / normed;
    const int head = static_cast<int>(i % normed), key = head - heads.q_heads;
    const T* const x = args.qkv + (token * (normed + heads.kv_heads) + head) * d;
    Pairs y = Turned(LoadPairs(x, half), args.cos_sin + token * d, half, 1.0f);
    const float squares = SumOfHead([&](int j) { return y.first[j] * y.first[j] + y.second[j] * y.second[j]; });
    const float rstd = 1.0f / sqrtf(squares / static_cast<float>(d) + heads.epsilon);
    const Pairs weight = LoadPairs(key < 0 ? args.q_weight : args.k_weight, half);
    APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
      y.first[j] = weight.first[j] * (y.first[j] * rstd);
      y.second[j] = weight.second[j] * (y.second[j] * rstd);
    }
    const std::int64_t at = key < 0 ? token * heads.q_heads + head : token * heads.kv_heads + key;
    StorePairs((key < 0 ? args.q : args.k) + at * d, y, half);
    if (threadIdx.x % kWarpLanes == 0) (key < 0 ? args.q_rstd : args.k_rstd)[at] = rstd;
  }
}

template <typename T>
struct QkGradOperands {
  T* dqkv;
  const T *dq, *dk, *qkv, *q_weight, *k_weight;
  const float *q_rstd, *k_rstd, *cos_sin;
  float* shares;  // [RowBlocks,2,D]
};

// Computes dx, and adds dy n to the weight's gradient.
template <typename T>
APTM_DEVICE void HeadGrad(T* dx, Pairs& dweight, const T* dy_D, const T* x, const T* weight_D, float rstd,
                          const float* cos_sin, int half) {
  const Pairs turned = Turned(LoadPairs(x, half), cos_sin, half, 1.0f);
  const Pairs dy = LoadPairs(dy_D, half), weight = LoadPairs(weight_D, half);
  const float dot = SumOfHead([&](int j) {
    return dy.first[j] * weight.first[j] * turned.first[j] + dy.second[j] * weight.second[j] * turned.second[j];
  });
  const float along = dot * rstd * rstd / static_cast<float>(2 * half);
  Pairs dturned;
  APTM_UNROLL for (int j = 0; j < kPairs; ++j) {
    dweight.first[j] += dy.first[j] * (turned.first[j] * rstd);
    dweight.second[j] += dy.second[j] * (turned.second[j] * rstd);
    dturned.first[j] = rstd * (dy.first[j] * weight.first[j] - turned.first[j] * along);
    dturned.second[j] = rstd * (dy.second[j] * weight.second[j] - turned.second[j] * along);
  }
  StorePairs(dx, Turned(dturned, cos_sin, half, -1.0f), half);
}

template <typename T>
__global__ void __launch_bounds__(kHeadThreads) QkRopeNormGrad(QkGradOperands<T> args, QkHeads heads) {
  const int half = heads.half, d = 2 * half, normed = heads.q_heads + heads.kv_heads;
  Pairs dq_weight = {}, dk_weight = {};
  for (std::int64_t token = blockIdx.x; token < heads.t; token += gridDim.x) {
    const float* const cos_sin = args.cos_sin + token * d;
    const std::int64_t row = token * (normed + heads.kv_heads) * d;
    for (int head = static_cast<int>(threadIdx.x) / kWarpLanes; head < normed; head += kHeadWarps) {
      const T* const x = args.qkv + row + head * d;
      T* const dx = args.dqkv + row + head * d;
      if (head < heads.q_heads) {
        const std::int64_t at = token * heads.q_heads + head;
        HeadGrad(dx, dq_weight, args.dq + at * d, x, args.q_weight, args.q_rstd[at], cos_sin, half);
      } else {
        const std::int64_t at = token * heads.kv_heads + head - heads.q_heads;
        HeadGrad(dx, dk_weight, args.dk + at * d, x, args.k_weight, args.k_rstd[at], cos_sin, half);
      }
    }
  }
  float* const share = args.shares + static_cast<std::int64_t>(blockIdx.x) * 2 * d;
  AddWarps(share, dq_weight, half);
  AddWarps(share + d, dk_weight, half);
}

}  // namespace

void LaunchRopeTable(const RopeTableArgs& args, const LaunchContext& context) {
  // Rounded to fp32 where the host backend rounds.
  const double d = static_cast<double>(args.d);
  const float base = static_cast<float>(args.alpha > 0 ? args.theta * std::pow(args.alpha, d / (d - 2)) : args.theta);
  Frequencies frequencies = {};
  for (std::int64_t i = 0; i < args.d / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(args.d);
    frequencies.of_pair[i] =
        1.0f / static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Launch(Striding(args.t * args.d / 2, kHeadThreads), context, &RopeTable, args.cos_sin.as<float>(), args.positions,
         frequencies, args.t, static_cast<int>(args.d / 2));
}

void LaunchQkRopeNorm(const QkRopeNormArgs& args, const LaunchContext& context) {
  const QkHeads heads = {.t = args.t,
                         .q_heads = static_cast<int>(args.q_heads),
                         .kv_heads = static_cast<int>(args.kv_heads),
                         .half = static_cast<int>(args.d / 2),
                         .epsilon = args.epsilon};
  WithElements(args.qkv.dtype, [&](auto element) {
    using T = decltype(element);
    const ForwardOperands<T> operands = {args.q.as<T>(),          args.k.as<T>(),          args.q_rstd.as<float>(),
                                         args.k_rstd.as<float>(), args.qkv.as<T>(),        args.q_weight.as<T>(),
                                         args.k_weight.as<T>(),   args.cos_sin.as<float>()};
    Launch(Striding(args.t * (args.q_heads + args.kv_heads) * kWarpLanes, kHeadThreads), context, &QkRopeNorm<T>,
           operands, heads);
  });
}

std::int64_t WorkspaceBytes(const QkRopeNormGradArgs& args) {
  return RowBlocks(args.t) * 2 * args.d * static_cast<std::int64_t>(sizeof(float));
}

void LaunchQkRopeNormGrad(const QkRopeNormGradArgs& args, const LaunchContext& context) {
  const std::int64_t blocks = RowBlocks(args.t), d = args.d;
  float* const shares = reinterpret_cast<float*>(context.workspace);
  const QkHeads heads = {.t = args.t,
                         .q_heads = static_cast<int>(args.q_heads),
                         .kv_heads = static_cast<int>(args.kv_heads),
                         .half = static_cast<int>(d / 2),
                         .epsilon = 0};
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(blocks)},
                             .block = {.x = kHeadThreads},
                             .shared_bytes = static_cast<std::size_t>(kHeadWarps * d) * sizeof(float)};
  WithElements(args.qkv.dtype, [&](auto element) {
    using T = decltype(element);
    const QkGradOperands<T> operands = {args.dqkv.as<T>(),        args.dq.as<T>(),
                                        args.dk.as<T>(),          args.qkv.as<T>(),
                                        args.q_weight.as<T>(),    args.k_weight.as<T>(),
                                        args.q_rstd.as<float>(),  args.k_rstd.as<float>(),
                                        args.cos_sin.as<float>(), shares};
    Launch(shape, context, &QkRopeNormGrad<T>, operands, heads);
  });
  LaunchAddShares(args.dq_weight, shares, blocks, 2 * d, d, args.accumulate_dweight, context);
  LaunchAddShares(args.dk_weight, shares + d, blocks, 2 * d, d, args.accumulate_dweight, context);
}

}  // namespace angel_ptm::cuda
