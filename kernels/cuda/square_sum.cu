// total += sum of values[n]^2 in fixed point, bit for bit as in the host backend: squares are added in double within
// groups of 256 in a fixed order, groups as 256-bit integers in any order.
//
// Bytes: 4 n, or 2 n for bf16; FLOPs: 2 n in double. Limit: memory on GPUs with a half-rate fp64 unit (sm_80, sm_90). A
// half-warp handles a group: lane l adds elements l, l + 16, ..., then lanes are folded in halves. Each block leaves
// one sum in the workspace, and a second kernel of one block adds them to the total. Workspace: a FixedPointSum per
// block.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/square_sum.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kSquareSumThreads = 256, kHalfWarp = 16, kGroupsAtOnce = kSquareSumThreads / kHalfWarp;

std::int64_t Blocks(std::int64_t n) {
  constexpr std::int64_t kBlocksMax = 132 * 8;
  const std::int64_t blocks = (n / kSquareSumGroup + kGroupsAtOnce - 1) / kGroupsAtOnce;
  return blocks < kBlocksMax ? blocks : kBlocksMax;
}

APTM_DEVICE double ShuffleDown(double x, int by) {
  const auto bits = ptx::BitCast<std::uint64_t>(x);
  const std::uint64_t low = __shfl_down_sync(kAllLanes, static_cast<std::uint32_t>(bits), by, kHalfWarp);
  const std::uint64_t high = __shfl_down_sync(kAllLanes, static_cast<std::uint32_t>(bits >> 32), by, kHalfWarp);
  return ptx::BitCast<double>(high << 32 | low);
}

// limbs += addend << (64 * first); returns true if the top overflows.
APTM_DEVICE bool AddAt(std::uint64_t (&limbs)[4], int first, std::uint64_t low, std::uint64_t high) {
  std::uint64_t carry = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t addend = i == first ? low : i == first + 1 ? high : 0;
    const std::uint64_t sum = limbs[i] + addend, with_carry = sum + carry;
    carry = (sum < addend ? 1 : 0) + (with_carry < sum ? 1 : 0);
    limbs[i] = with_carry;
  }
  return carry != 0 || (first == 3 && high != 0);
}

// FixedPointSum::Add (base/fixed_point.h) on the device.
APTM_DEVICE void AddTerm(FixedPointSum& sum, double term) {
  if (!(term >= 0) || term >= 0x1p127) {
    ++sum.non_finite;
    return;
  }
  constexpr int kFractionBits = 128;
  const auto bits = ptx::BitCast<std::uint64_t>(term);
  const int exponent = static_cast<int>(bits >> 52);
  if (exponent == 0) return;
  const std::uint64_t mantissa = (bits & ((std::uint64_t{1} << 52) - 1)) | std::uint64_t{1} << 52;
  const int shift = exponent - 1075 + kFractionBits;
  if (shift < 0) {
    if (shift > -53) AddAt(sum.limbs, 0, mantissa >> -shift, 0);
    return;
  }
  const int within = shift % 64;
  const std::uint64_t high = within == 0 ? 0 : mantissa >> (64 - within);
  if (AddAt(sum.limbs, shift / 64, mantissa << within, high)) ++sum.non_finite;
}

APTM_DEVICE void AddSum(FixedPointSum& sum, const FixedPointSum& other) {
  std::uint64_t carry = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t addend = other.limbs[i], partial = sum.limbs[i] + addend, total = partial + carry;
    carry = (partial < addend ? 1 : 0) + (total < partial ? 1 : 0);
    sum.limbs[i] = total;
  }
  sum.non_finite += other.non_finite + carry;
}

// Thread 0 writes to `to` the sum of what `kCount` threads each hold.
template <int kCount>
APTM_DEVICE void AddShares(FixedPointSum* to, const FixedPointSum& mine, bool holds, int slot) {
  APTM_SHARED(std::uint64_t, words, kCount * 5);
  if (holds) {
    for (int i = 0; i < 4; ++i) words[slot * 5 + i] = mine.limbs[i];
    words[slot * 5 + 4] = mine.non_finite;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  FixedPointSum all;
  for (int share = 0; share < kCount; ++share) {
    FixedPointSum other;
    for (int i = 0; i < 4; ++i) other.limbs[i] = words[share * 5 + i];
    other.non_finite = words[share * 5 + 4];
    AddSum(all, other);
  }
  *to = all;
}

template <typename T>
__global__ void __launch_bounds__(kSquareSumThreads)
    SquareSum(FixedPointSum* partial, const T* values, std::int64_t groups) {
  const int lane = threadIdx.x % kHalfWarp, half_warp = threadIdx.x / kHalfWarp;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kGroupsAtOnce;
  FixedPointSum sum;
  // The whole warp iterates as long as either half has a group.
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kGroupsAtOnce; first < groups; first += step) {
    const std::int64_t group = first + half_warp;
    double squares = 0;
    if (group < groups) {
      for (int i = lane; i < kSquareSumGroup; i += kHalfWarp) {
        const double value = static_cast<double>(Widened(values[group * kSquareSumGroup + i]));
        squares += value * value;
      }
    }
    for (int half = kHalfWarp / 2; half > 0; half /= 2) squares += ShuffleDown(squares, half);
    if (lane == 0 && group < groups) AddTerm(sum, squares);
  }
  AddShares<kGroupsAtOnce>(partial + blockIdx.x, sum, lane == 0, half_warp);
}

__global__ void __launch_bounds__(kSquareSumThreads)
    AddPartials(FixedPointSum* total, const FixedPointSum* partial, int count) {
  FixedPointSum sum;
  if (threadIdx.x == 0) sum = *total;
  for (int i = threadIdx.x; i < count; i += kSquareSumThreads) AddSum(sum, partial[i]);
  AddShares<kSquareSumThreads>(total, sum, true, threadIdx.x);
}

}  // namespace

std::int64_t WorkspaceBytes(const SquareSumArgs& args) {
  return Blocks(args.n) * static_cast<std::int64_t>(sizeof(FixedPointSum));
}

void LaunchSquareSum(const SquareSumArgs& args, const LaunchContext& context) {
  auto* const partial = reinterpret_cast<FixedPointSum*>(context.workspace);
  const std::int64_t blocks = Blocks(args.n);
  if (blocks == 0) return;
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(blocks)}, .block = {.x = kSquareSumThreads}};
  if (args.values.dtype == DType::kBFloat16) {
    Launch(shape, context, &SquareSum<BFloat16>, partial, args.values.as<BFloat16>(), args.n / kSquareSumGroup);
  } else {
    Launch(shape, context, &SquareSum<float>, partial, args.values.as<float>(), args.n / kSquareSumGroup);
  }
  Launch({.grid = {}, .block = {.x = kSquareSumThreads}}, context, &AddPartials, args.total, partial,
         static_cast<int>(blocks));
}

}  // namespace angel_ptm::cuda
