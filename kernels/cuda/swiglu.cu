// y[R,F] = silu(gate) up with gate_up[R,2F], y[n] = silu(x), and their gradients. silu(g) = g s, s = 1 / (1 + e^-g);
// silu' = s + g s (1 - s).
//
// Bytes of elements: 3 R F forward, 5 R F backward, silu's 2 n and 3 n; FLOPs: about 6 and 12 R F. Limit: memory. A
// thread handles 8 neighbours at a time if F allows it; the grid strides over the rows of active blocks, whose number
// only the device knows.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/silu.h"
#include "kernels/ops/swiglu.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kSwigluThreads = 256;

struct Rows {
  std::int64_t rows, f, block_rows;
  const std::int32_t* active_blocks;
};

APTM_DEVICE std::int64_t ActiveRows(const Rows& shape) {
  return shape.active_blocks == nullptr ? shape.rows : *shape.active_blocks * shape.block_rows;
}

APTM_DEVICE float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <int kWidth, typename T>
__global__ void __launch_bounds__(kSwigluThreads) Swiglu(T* y, const T* gate_up, Rows shape) {
  const std::int64_t f = shape.f;
  ForGroups<kWidth>(ActiveRows(shape) * f, [&](std::int64_t i) {
    const T* const gate_at = gate_up + i / f * 2 * f + i % f;
    float gate[kWidth], up[kWidth];
    LoadGroup(gate_at, gate);
    LoadGroup(gate_at + f, up);
    for (int j = 0; j < kWidth; ++j) gate[j] = gate[j] / (1.0f + expf(-gate[j])) * up[j];
    StoreGroup(y + i, gate);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kSwigluThreads)
    SwigluGrad(T* dgate_up, const T* dy_RF, const T* gate_up, Rows shape) {
  const std::int64_t f = shape.f;
  ForGroups<kWidth>(ActiveRows(shape) * f, [&](std::int64_t i) {
    const std::int64_t at = i / f * 2 * f + i % f;
    float gate[kWidth], up[kWidth], dy[kWidth];
    LoadGroup(gate_up + at, gate);
    LoadGroup(gate_up + at + f, up);
    LoadGroup(dy_RF + i, dy);
    for (int j = 0; j < kWidth; ++j) {
      const float sigmoid = Sigmoid(gate[j]), silu = gate[j] * sigmoid;
      gate[j] = dy[j] * up[j] * (sigmoid + silu * (1.0f - sigmoid));
      up[j] = dy[j] * silu;
    }
    StoreGroup(dgate_up + at, gate);
    StoreGroup(dgate_up + at + f, up);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kSwigluThreads) Silu(T* y, const T* x, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    float values[kWidth];
    LoadGroup(x + i, values);
    for (int j = 0; j < kWidth; ++j) values[j] = values[j] / (1.0f + expf(-values[j]));
    StoreGroup(y + i, values);
  });
}

// 1 - sigmoid(x) = sigmoid(-x) does not cancel.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kSwigluThreads) SiluGrad(T* dx, const T* dy, const T* x, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    float values[kWidth], grads[kWidth];
    LoadGroup(x + i, values);
    LoadGroup(dy + i, grads);
    for (int j = 0; j < kWidth; ++j) {
      const float gate = Sigmoid(values[j]);
      grads[j] *= gate + values[j] * gate * Sigmoid(-values[j]);
    }
    StoreGroup(dx + i, grads);
  });
}

}  // namespace

void LaunchSwiglu(const SwigluArgs& args, const LaunchContext& context) {
  const Rows shape = {args.rows, args.f, args.block_rows, args.active_blocks};
  WithVariant(args.y.dtype, args.f, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.rows * args.f / kWidth, kSwigluThreads), context, &Swiglu<kWidth, T>, args.y.as<T>(),
           args.gate_up.as<T>(), shape);
  });
}

void LaunchSwigluGrad(const SwigluGradArgs& args, const LaunchContext& context) {
  const Rows shape = {args.rows, args.f, args.block_rows, args.active_blocks};
  WithVariant(args.dy.dtype, args.f, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.rows * args.f / kWidth, kSwigluThreads), context, &SwigluGrad<kWidth, T>,
           args.dgate_up.as<T>(), args.dy.as<T>(), args.gate_up.as<T>(), shape);
  });
}

void LaunchSilu(const SiluArgs& args, const LaunchContext& context) {
  WithVariant(args.x.dtype, args.n, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.n / kWidth, kSwigluThreads), context, &Silu<kWidth, T>, args.y.as<T>(), args.x.as<T>(),
           args.n);
  });
}

void LaunchSiluGrad(const SiluGradArgs& args, const LaunchContext& context) {
  WithVariant(args.x.dtype, args.n, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(args.n / kWidth, kSwigluThreads), context, &SiluGrad<kWidth, T>, args.dx.as<T>(), args.dy.as<T>(),
           args.x.as<T>(), args.n);
  });
}

}  // namespace angel_ptm::cuda
