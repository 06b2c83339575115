// y[n] = x gate(x) with gate(x) = (1 + tanh(u)) / 2 = 1 / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3), and
// dx = dy (gate + x gate'). With kErf gate(x) = (1 + erf(x / sqrt(2))) / 2.
//
// Bytes of elements: 2 n forward, 3 n backward; FLOPs: about 10 n and 20 n. Limit: memory. A thread handles 8
// neighbours at a time; the grid strides.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/gelu.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kGeluThreads = 256;
constexpr float kGeluCubic = 0.044715f;
constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2/pi)
// Beyond kSaturated the function is x or 0 to the last bit. Beyond kFlat its derivative is 1 or 0; within it e^(-2u) is
// finite.
constexpr float kSaturated = 16.0f, kFlat = 10.0f;

// NaN stays NaN.
APTM_DEVICE float Clamped(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }
APTM_DEVICE float TwiceU(float x) { return kTwiceRoot * (x + kGeluCubic * x * x * x); }

// For a negative x this is a small number, which erfc computes to its last digits.
APTM_DEVICE float NormalDistribution(float x) { return 0.5f * erfcf(-0.707106781f * x); }

template <bool kErf>
APTM_DEVICE float GeluOf(float x) {
  if (kErf) return x * NormalDistribution(x);
  return x / (1.0f + expf(-TwiceU(Clamped(x, kSaturated))));
}
// gate' = gate (1 - gate) (2u)'; 1 - gate = gate e^(-2u) does not cancel.
template <bool kErf>
APTM_DEVICE float GeluSlope(float x) {
  if (kErf) return NormalDistribution(x) + x * (0.39894228f * expf(-0.5f * x * x));
  const float at = Clamped(x, kFlat), odds = expf(-TwiceU(at)), gate = 1.0f / (1.0f + odds);
  return gate + at * (gate * (gate * odds) * kTwiceRoot * (1.0f + 3.0f * kGeluCubic * at * at));
}

template <bool kErf, int kWidth, typename T>
APTM_DEVICE void ForwardGroup(T* y, const T* x) {
  float values[kWidth];
  LoadGroup(x, values);
  for (int j = 0; j < kWidth; ++j) values[j] = GeluOf<kErf>(values[j]);
  StoreGroup(y, values);
}

template <bool kErf, typename T>
__global__ void __launch_bounds__(kGeluThreads) Gelu(T* y, const T* x, std::int64_t n) {
  const std::int64_t whole = n / kGroup * kGroup;
  ForGroups<kGroup>(whole, [&](std::int64_t i) { ForwardGroup<kErf, kGroup>(y + i, x + i); });
  ForGroups<1>(n - whole, [&](std::int64_t i) { ForwardGroup<kErf, 1>(y + whole + i, x + whole + i); });
}

template <bool kErf, int kWidth, typename T>
APTM_DEVICE void BackwardGroup(T* dx, const T* dy, const T* x) {
  float values[kWidth], grads[kWidth];
  LoadGroup(x, values);
  LoadGroup(dy, grads);
  for (int j = 0; j < kWidth; ++j) values[j] = grads[j] * GeluSlope<kErf>(values[j]);
  StoreGroup(dx, values);
}

template <bool kErf, typename T>
__global__ void __launch_bounds__(kGeluThreads) GeluGrad(T* dx, const T* dy, const T* x, std::int64_t n) {
  const std::int64_t whole = n / kGroup * kGroup;
  ForGroups<kGroup>(whole, [&](std::int64_t i) { BackwardGroup<kErf, kGroup>(dx + i, dy + i, x + i); });
  ForGroups<1>(n - whole,
               [&](std::int64_t i) { BackwardGroup<kErf, 1>(dx + whole + i, dy + whole + i, x + whole + i); });
}

}  // namespace

void LaunchGelu(const GeluArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding((args.n + kGroup - 1) / kGroup, kGeluThreads), context, args.erf ? &Gelu<true, T> : &Gelu<false, T>,
           args.y.as<T>(), args.x.as<T>(), args.n);
  });
}

void LaunchGeluGrad(const GeluGradArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Striding((args.n + kGroup - 1) / kGroup, kGeluThreads), context,
           args.erf ? &GeluGrad<true, T> : &GeluGrad<false, T>, args.dx.as<T>(), args.dy.as<T>(), args.x.as<T>(),
           args.n);
  });
}

}  // namespace angel_ptm::cuda
