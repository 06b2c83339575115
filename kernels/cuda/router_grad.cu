// The gradient of routing (kernels/ops/router.h), with operands in bf16 or fp32. With s the sum of a token's chosen
// probabilities:
//   dprobs = aux_scale counts + (dweights - sum of dweights weights) / s for the chosen,
//   dlogits[T,E] = probs (dprobs - dot(probs, dprobs)),   dx (+)= dlogits gate,   dgate (+)= dlogits^T x.
//
// Bytes: 8 T E, then T H elements read and written once or twice, because E is small; FLOPs: 4 T E H in fp32, because
// dlogits in bf16 would lose the precision of the products' sums. Limit: memory while E is below about 30, then fp32
// arithmetic. A warp computes a token's dlogits, a lane every 32nd expert. In the products a block of 256 threads
// computes a tile of 64 x 64, a thread 4 x 4, in steps of 16. dgate: a number of shares of the tokens that depends on
// the shape alone, which another launch adds in order. Workspace: T E and Shares(T) E H fp32.
#include "kernels/cuda/row_shares.cuh"
#include "kernels/ops/router.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kRouterGradThreads = 256, kRouterGradWarps = kRouterGradThreads / kWarpLanes;
constexpr int kTile = 64, kStep = 16, kMine = 4, kAcross = kTile / kMine;

// The shares of the tokens for dgate, whose number depends on the shape alone.
constexpr std::int64_t kShareTokens = 512, kSharesMax = 16;
std::int64_t Shares(std::int64_t t) {
  const std::int64_t shares = (t + kShareTokens - 1) / kShareTokens;
  return shares < kSharesMax ? shares : kSharesMax;
}

struct RoutingGrad {
  float* dlogits;
  const float *dweights, *weights, *probs, *target_count;
  const std::int32_t *experts, *counts;
  std::int64_t t;
  int e, k;
  double aux_scale;  // times *target_count
};

__global__ void __launch_bounds__(kRouterGradThreads) LogitsGrad(RoutingGrad r) {
  const int lane = threadIdx.x % kWarpLanes;
  const float aux_scale = static_cast<float>(r.aux_scale * static_cast<double>(*r.target_count));
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRouterGradWarps;
  for (std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kRouterGradWarps + threadIdx.x / kWarpLanes;
       token < r.t; token += step) {
    const float* const p_E = r.probs + token * r.e;
    const std::int64_t first = token * r.k;
    float* const d_E = r.dlogits + token * r.e;
    float chosen = 0, mean = 0, dot = 0;
    for (int c = 0; c < r.k; ++c) {
      chosen += p_E[r.experts[first + c]];
      mean += r.dweights[first + c] * r.weights[first + c];
    }
    for (int i = lane; i < r.e; i += kWarpLanes) {
      float d = aux_scale * static_cast<float>(r.counts[i]);
      for (int c = 0; c < r.k; ++c) {
        if (r.experts[first + c] == i) d += (r.dweights[first + c] - mean) / chosen;
      }
      d_E[i] = d;
      dot += p_E[i] * d;
    }
    dot = WarpSum(dot);
    for (int i = lane; i < r.e; i += kWarpLanes) d_E[i] = p_E[i] * (d_E[i] - dot);
  }
}

// sums += the tile at (row, column) of a b, over k of [begin, end). a(m, k) and b(k, n) return zero outside.
template <typename A, typename B>
APTM_DEVICE void MultiplyTile(float (&sums)[kMine][kMine], const A& a, const B& b, std::int64_t row,
                              std::int64_t column, std::int64_t begin, std::int64_t end) {
  APTM_SHARED(float, a_tile, kStep* kTile);
  APTM_SHARED(float, b_tile, kStep* kTile);
  const int thread = threadIdx.x, m = thread / kAcross * kMine, n = thread % kAcross * kMine;
  for (std::int64_t k = begin; k < end; k += kStep) {
    __syncthreads();  // the last step has been read
    for (int i = thread; i < kStep * kTile; i += kRouterGradThreads) {
      const std::int64_t at = k + i / kTile;
      a_tile[i] = at < end ? a(row + i % kTile, at) : 0.0f;
      b_tile[i] = at < end ? b(at, column + i % kTile) : 0.0f;
    }
    __syncthreads();
    for (int l = 0; l < kStep; ++l) {
      const float4 left = *reinterpret_cast<const float4*>(a_tile + l * kTile + m);
      const float4 right = *reinterpret_cast<const float4*>(b_tile + l * kTile + n);
      const float as[kMine] = {left.x, left.y, left.z, left.w}, bs[kMine] = {right.x, right.y, right.z, right.w};
      APTM_UNROLL for (int i = 0; i < kMine; ++i) {
        APTM_UNROLL for (int j = 0; j < kMine; ++j) sums[i][j] = fmaf(as[i], bs[j], sums[i][j]);
      }
    }
  }
}

// Calls fn(row, column, sum) for the thread's part of the tile.
template <typename Fn>
APTM_DEVICE void ForSums(const float (&sums)[kMine][kMine], std::int64_t row, std::int64_t column, const Fn& fn) {
  const int m = static_cast<int>(threadIdx.x) / kAcross * kMine, n = static_cast<int>(threadIdx.x) % kAcross * kMine;
  APTM_UNROLL for (int i = 0; i < kMine; ++i) {
    APTM_UNROLL for (int j = 0; j < kMine; ++j) fn(row + m + i, column + n + j, sums[i][j]);
  }
}

struct Extents {
  std::int64_t t, e, h;
};

template <typename T>
__global__ void __launch_bounds__(kRouterGradThreads)
    RouterInputGrad(T* dx, const float* dlogits, const T* gate, Extents x, bool accumulate) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kTile;
  float sums[kMine][kMine] = {};
  MultiplyTile(
      sums, [&](std::int64_t m, std::int64_t k) { return m < x.t ? dlogits[m * x.e + k] : 0.0f; },
      [&](std::int64_t k, std::int64_t n) { return n < x.h ? Widened(gate[k * x.h + n]) : 0.0f; }, row, column, 0, x.e);
  ForSums(sums, row, column, [&](std::int64_t m, std::int64_t n, float sum) {
    if (m >= x.t || n >= x.h) return;
    T* const at = dx + m * x.h + n;
    StoreRounded(at, accumulate ? Widened(*at) + sum : sum);
  });
}

template <typename T>
__global__ void __launch_bounds__(kRouterGradThreads)
    RouterGateGrad(float* shares, const float* dlogits, const T* x_TH, Extents x) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kTile, share = blockIdx.z;
  const std::int64_t tokens = (x.t + gridDim.z - 1) / gridDim.z, begin = share * tokens;
  float sums[kMine][kMine] = {};
  MultiplyTile(
      sums, [&](std::int64_t m, std::int64_t k) { return m < x.e ? dlogits[k * x.e + m] : 0.0f; },
      [&](std::int64_t k, std::int64_t n) { return n < x.h ? Widened(x_TH[k * x.h + n]) : 0.0f; }, row, column, begin,
      begin + tokens < x.t ? begin + tokens : x.t);
  ForSums(sums, row, column, [&](std::int64_t m, std::int64_t n, float sum) {
    if (m < x.e && n < x.h) shares[(share * x.e + m) * x.h + n] = sum;
  });
}

}  // namespace

std::int64_t WorkspaceBytes(const RouterGradArgs& args) {
  return (args.t + Shares(args.t) * args.h) * args.e * static_cast<std::int64_t>(sizeof(float));
}

void LaunchRouterGrad(const RouterGradArgs& args, const LaunchContext& context) {
  float* const dlogits = reinterpret_cast<float*>(context.workspace);
  float* const shares = dlogits + args.t * args.e;
  const double tokens = static_cast<double>(args.t);
  const RoutingGrad routing = {.dlogits = dlogits,
                               .dweights = args.dweights.as<float>(),
                               .weights = args.weights.as<float>(),
                               .probs = args.probs.as<float>(),
                               .target_count = args.target_count,
                               .experts = args.experts,
                               .counts = args.counts,
                               .t = args.t,
                               .e = static_cast<int>(args.e),
                               .k = static_cast<int>(args.k),
                               .aux_scale = static_cast<double>(args.aux_coefficient) * static_cast<double>(args.e) /
                                            (tokens * static_cast<double>(args.k) * tokens)};
  Launch(Striding(args.t * kWarpLanes, kRouterGradThreads), context, &LogitsGrad, routing);
  const auto tiles = [](std::int64_t extent) { return static_cast<unsigned>((extent + kTile - 1) / kTile); };
  const Extents extents = {args.t, args.e, args.h};
  const std::int64_t count = Shares(args.t), n = args.e * args.h;
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    if (args.dx) {
      Launch({.grid = {.x = tiles(args.h), .y = tiles(args.t)}, .block = {.x = kRouterGradThreads}}, context,
             &RouterInputGrad<T>, args.dx.as<T>(), dlogits, args.gate.as<T>(), extents, args.accumulate_dx);
    }
    if (!args.dgate) return;
    Launch({.grid = {.x = tiles(args.h), .y = tiles(args.e), .z = static_cast<unsigned>(count)},
            .block = {.x = kRouterGradThreads}},
           context, &RouterGateGrad<T>, shares, dlogits, args.x.as<T>(), extents);
  });
  LaunchAddShares(args.dgate, shares, count, n, n, args.accumulate_dgate, context);
}

}  // namespace angel_ptm::cuda
