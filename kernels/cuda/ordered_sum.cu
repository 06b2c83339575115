// dst[n] (+)= x_0 + x_1 + ... + x_{R-1}, from left to right in fp32, bit for bit as on the host (comm/ordered_sum.h),
// rounded once if dst is bf16.
//
// Bytes: R n elements to read, 4 n to write, 4 n more to read to accumulate; FLOPs: R n. Limit: memory. A thread
// handles 8 neighbours at a time, or one if not all blocks are aligned to 16 bytes, and iterates over the ranks with
// their sums in registers; the grid strides.
#include "kernels/cuda/cuda_ordered_sum.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"

namespace angel_ptm::cuda {
namespace {

constexpr int kOrderedSumThreads = 256;

struct Addends {
  const std::byte *blocks, *own;
  std::int64_t stride;
  int ranks, own_rank;
  std::int64_t grouped;  // elements, the first ones, that lie in groups
};

template <typename T>
APTM_DEVICE const T* AddendOf(const Addends& x, int rank) {
  return reinterpret_cast<const T*>(rank == x.own_rank ? x.own : x.blocks + rank * x.stride);
}

template <int kWidth, typename To, typename From>
APTM_DEVICE void SumGroup(To* dst, const Addends& x, std::int64_t i, bool accumulate) {
  float sum[kWidth], term[kWidth];
  LoadGroup(AddendOf<From>(x, 0) + i, sum);
  for (int r = 1; r < x.ranks; ++r) {
    LoadGroup(AddendOf<From>(x, r) + i, term);
    for (int j = 0; j < kWidth; ++j) sum[j] += term[j];
  }
  if (accumulate) {
    LoadGroup(dst + i, term);
    for (int j = 0; j < kWidth; ++j) sum[j] = term[j] + sum[j];
  }
  StoreGroup(dst + i, sum);
}

template <typename To, typename From>
__global__ void __launch_bounds__(kOrderedSumThreads) OrderedSum(To* dst, Addends x, std::int64_t n, bool accumulate) {
  ForGroups<kGroup>(x.grouped, [&](std::int64_t i) { SumGroup<kGroup, To, From>(dst, x, i, accumulate); });
  ForGroups<1>(n - x.grouped, [&](std::int64_t i) { SumGroup<1, To, From>(dst, x, x.grouped + i, accumulate); });
}

}  // namespace
}  // namespace angel_ptm::cuda

namespace angel_ptm {

void LaunchCudaOrderedSum(const OrderedSumArgs& args, void* stream) {
  const auto aligned = [](const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 == 0; };
  const bool groups = aligned(args.dst) && aligned(args.blocks) && aligned(args.own) && args.stride % 16 == 0;
  const cuda::Addends x = {args.blocks, args.own,      args.stride,
                           args.ranks,  args.own_rank, groups ? args.n / cuda::kGroup * cuda::kGroup : 0};
  const std::int64_t at_once = groups ? cuda::kGroup : 1;
  const auto launch = [&](auto to, auto from) {
    using To = decltype(to);
    cuda::Launch(cuda::Striding((args.n + at_once - 1) / at_once, cuda::kOrderedSumThreads), {.stream = stream},
                 &cuda::OrderedSum<To, decltype(from)>, reinterpret_cast<To*>(args.dst), x, args.n, args.accumulate);
  };
  const auto launch_to = [&](auto to) { args.type == DType::kBFloat16 ? launch(to, BFloat16()) : launch(to, 0.0f); };
  args.dst_type == DType::kBFloat16 ? launch_to(BFloat16()) : launch_to(0.0f);
}

}  // namespace angel_ptm
