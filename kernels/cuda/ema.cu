// ema[n] += rate (param - ema), each operation rounded once: the host backend's bits.
//
// Bytes: 12 n, FLOPs: 3 n. Limit: memory. A thread updates 8 neighbours at a time; the grid strides. nvcc must not
// contract (-fmad=false).
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/ema.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kEmaThreads = 256;

template <int kWidth>
APTM_DEVICE void UpdateGroup(float* ema, const float* param, float rate) {
  float average[kWidth], value[kWidth];
  LoadGroup(ema, average);
  LoadGroup(param, value);
  for (int i = 0; i < kWidth; ++i) average[i] = average[i] + rate * (value[i] - average[i]);
  StoreGroup(ema, average);
}

__global__ void __launch_bounds__(kEmaThreads)
    Ema(float* ema, const float* param, const EmaScalars* scalars, std::int64_t n) {
  const float rate = scalars->rate;
  const std::int64_t whole = n / kGroup * kGroup;
  ForGroups<kGroup>(whole, [&](std::int64_t i) { UpdateGroup<kGroup>(ema + i, param + i, rate); });
  ForGroups<1>(n - whole, [&](std::int64_t i) { UpdateGroup<1>(ema + whole + i, param + whole + i, rate); });
}

}  // namespace

void LaunchEma(const EmaArgs& args, const LaunchContext& context) {
  Launch(Striding((args.n + kGroup - 1) / kGroup, kEmaThreads), context, &Ema, args.ema.as<float>(),
         args.param.as<float>(), args.scalars, args.n);
}

}  // namespace angel_ptm::cuda
