// y[n] = x[n], converted to another type.
//
// Bytes: 6 n, FLOPs: none. Limit: memory. A thread converts 8 neighbours at a time, 16 and 32 bytes; the grid strides.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/cast.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kCastThreads = 256;

template <typename To, typename From>
__global__ void __launch_bounds__(kCastThreads) Cast(To* y, const From* x, std::int64_t n) {
  const std::int64_t whole = n / kGroup * kGroup;
  ForGroups<kGroup>(whole, [&](std::int64_t i) {
    float values[kGroup];
    LoadGroup(x + i, values);
    StoreGroup(y + i, values);
  });
  ForGroups<1>(n - whole, [&](std::int64_t i) { StoreRounded(y + whole + i, Widened(x[whole + i])); });
}

}  // namespace

void LaunchCast(const CastArgs& args, const LaunchContext& context) {
  const LaunchShape shape = Striding((args.n + kGroup - 1) / kGroup, kCastThreads);
  if (args.y.dtype == DType::kBFloat16) {
    Launch(shape, context, &Cast<BFloat16, float>, args.y.as<BFloat16>(), args.x.as<float>(), args.n);
  } else {
    Launch(shape, context, &Cast<float, BFloat16>, args.y.as<float>(), args.x.as<BFloat16>(), args.n);
  }
}

}  // namespace angel_ptm::cuda
