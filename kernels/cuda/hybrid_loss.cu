// The loss of diffusion models that learn their variance (kernels/ops/hybrid_loss.h). With N = R C elements per sample,
//   loss[b] = weight[b] mean((p - target)^2),  loss[B + b] = weight of the bound mean(L)
// and the gradient of their sum by p and v. With u = l - least, k = error^2 exp(-least), m = exp(-u) - 1 and
// a = k (p - target)^2 exp(-u),
//   L = (u + m + a) / 2,  dL/dv = -(m + a) du/dv / 2;
// for the samples at the first time step L comes from the probability of a bin, in double.
//
// Bytes: of elements 2 N B read and as many written, and 8 N B of targets and clean values; FLOPs: about 30 per
// element. Limit: memory; for the samples at the first time step, the double-precision units. One block per sample; the
// shares of its threads are added in order in double.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/hybrid_loss.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kHybridLossThreads = 256;
// Minimum of blocks per multiprocessor, stated so that ptxas gives the double arithmetic registers instead of local
// memory.
constexpr int kBlocks = 2;

struct BoundTerm {
  float term, slope;  // L, dL/dv
};

APTM_DEVICE BoundTerm Divergence(float half_range, float k, float difference, float v) {
  const float u = (v + 1.0f) * half_range, m = expm1f(-u), a = k * difference * difference * (1.0f + m);
  return {0.5f * (u + m + a), -0.5f * half_range * (m + a)};
}

// The distribution at z, from both sides, and its derivative.
struct NormalTails {
  double below, above, density;
};
APTM_DEVICE NormalTails TailsAt(double z) {
  constexpr double kScale = 1.5957691216057308, kCubic = 0.044715;  // 2 sqrt(2 / pi)
  const double y = kScale * (z + kCubic * z * z * z), below = 1 / (1 + exp(-y)), above = 1 / (1 + exp(y));
  return {below, above, below * above * kScale * (1 + 3 * kCubic * z * z)};
}

APTM_DEVICE BoundTerm Decoding(const float* bound, float difference, float v, float clean) {
  constexpr double kHalfBin = 1.0 / 255, kLeast = 1e-12;
  const double range = static_cast<double>(bound[kBoundLogRange]);
  const double log_variance = static_cast<double>(bound[kBoundLogLeast]) + 0.5 * (static_cast<double>(v) + 1) * range;
  const double inverse = exp(-0.5 * log_variance);
  const double from_mean = -static_cast<double>(bound[kBoundError]) * static_cast<double>(difference);
  const double high = inverse * (from_mean + kHalfBin), low = inverse * (from_mean - kHalfBin);
  const NormalTails to = TailsAt(high), from = TailsAt(low);
  const bool first = static_cast<double>(clean)<-0.999, last = static_cast<double>(clean)> 0.999;
  // If both are in the upper tail, the difference of their `above` keeps the digits.
  const double inner = low > 0 ? from.above - to.above : to.below - from.below;
  const double probability = first ? to.below : last ? from.above : inner;
  const double change = (last ? 0 : high * to.density) - (first ? 0 : low * from.density);
  if (probability < kLeast) return {static_cast<float>(-log(kLeast)), 0.0f};
  return {static_cast<float>(-log(probability)), static_cast<float>(0.25 * range * change / probability)};
}

// The inputs of all samples.
struct Hybrid {
  const float *target, *clean, *weights, *bounds;
  std::int64_t n, c;
};

template <typename T>
__global__ void __launch_bounds__(kHybridLossThreads, kBlocks)
    HybridLoss(float* sample_loss, T* dx, const T* x, Hybrid of) {
  APTM_SHARED(double, shares, kHybridLossThreads);
  APTM_SHARED(double, bound_shares, kHybridLossThreads);
  const std::int64_t first = blockIdx.x * of.n;
  const float* const bound = of.bounds + blockIdx.x * kBoundColumns;
  const bool decoded = bound[kBoundDecoded] != 0;
  const double weight = static_cast<double>(of.weights[blockIdx.x]), count = static_cast<double>(of.n);
  const double bound_weight = static_cast<double>(bound[kBoundWeight]), error = static_cast<double>(bound[kBoundError]);
  const float slope = static_cast<float>(2 * weight / count), bound_slope = static_cast<float>(bound_weight / count);
  const float half_range = static_cast<float>(0.5 * static_cast<double>(bound[kBoundLogRange]));
  const float k = static_cast<float>(error * error * exp(-static_cast<double>(bound[kBoundLogLeast])));
  double squares = 0, terms = 0;
  for (std::int64_t i = threadIdx.x; i < of.n; i += kHybridLossThreads) {
    const std::int64_t p = 2 * first + i / of.c * 2 * of.c + i % of.c, v = p + of.c;
    const float difference = Widened(x[p]) - of.target[first + i], fraction = Widened(x[v]);
    const BoundTerm term = decoded ? Decoding(bound, difference, fraction, of.clean[first + i])
                                   : Divergence(half_range, k, difference, fraction);
    squares += static_cast<double>(difference) * static_cast<double>(difference);
    terms += static_cast<double>(term.term);
    if (dx == nullptr) continue;
    StoreRounded(dx + p, slope * difference);
    StoreRounded(dx + v, bound_slope * term.slope);
  }
  shares[threadIdx.x] = squares;
  bound_shares[threadIdx.x] = terms;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kHybridLossThreads; ++i) {
    squares += shares[i];
    terms += bound_shares[i];
  }
  sample_loss[blockIdx.x] = static_cast<float>(weight * squares / count);
  sample_loss[gridDim.x + blockIdx.x] = static_cast<float>(bound_weight * terms / count);
}

}  // namespace

void LaunchHybridLoss(const HybridLossArgs& args, const LaunchContext& context) {
  const Hybrid of = {args.target.as<float>(), args.clean.as<float>(), args.weight.as<float>(),
                     args.bound.as<float>(),  args.r * args.c,        args.c};
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch({.grid = {.x = static_cast<unsigned>(args.b)}, .block = {.x = kHybridLossThreads}}, context, &HybridLoss<T>,
           args.sample_loss.as<float>(), args.dx.as<T>(), args.x.as<T>(), of);
  });
}

}  // namespace angel_ptm::cuda
