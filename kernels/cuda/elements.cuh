// Elements, fp32 or bf16, in groups of neighbours: 16 bytes per load if rows allow it. Also sums over a block.
#ifndef ANGEL_PTM_KERNELS_CUDA_ELEMENTS_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ELEMENTS_CUH_

#include <cstdint>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/dtype.h"
#include "kernels/cuda/language.cuh"
#include "kernels/cuda/ptx.cuh"

namespace angel_ptm::cuda {

APTM_DEVICE float Widened(float x) { return x; }
APTM_DEVICE float Widened(BFloat16 x) { return ptx::BitCast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

// Integer arithmetic, as on the host (base/bfloat16.h): the same bits, including subnormals and NaNs.
APTM_DEVICE std::uint16_t Bf16Bits(float x) {
  const auto bits = ptx::BitCast<std::uint32_t>(x);
  const std::uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>((x != x ? bits | 0x400000 : rounded) >> 16);
}
APTM_DEVICE void StoreRounded(float* to, float x) { *to = x; }
APTM_DEVICE void StoreRounded(BFloat16* to, float x) { to->bits = Bf16Bits(x); }
// x as it will be read back.
APTM_DEVICE float AsStored(const float*, float x) { return x; }
APTM_DEVICE float AsStored(const BFloat16*, float x) {
  return ptx::BitCast<float>(static_cast<std::uint32_t>(Bf16Bits(x)) << 16);
}

// Elements in 16 bytes.
template <typename T>
inline constexpr int kChunkOf = 16 / sizeof(T);

// Elements that a thread handles at a time: 8 if every row starts and ends at a group's border, else 1.
inline constexpr int kGroup = 8;

APTM_DEVICE void LoadGroup(const float* from, float (&x)[1]) { x[0] = *from; }
APTM_DEVICE void LoadGroup(const BFloat16* from, float (&x)[1]) { x[0] = Widened(*from); }
APTM_DEVICE void LoadGroup(const float* from, float (&x)[kGroup]) {
  const float4* const quads = reinterpret_cast<const float4*>(from);
  for (int i = 0; i < 2; ++i) {
    const float4 quad = quads[i];
    x[4 * i] = quad.x, x[4 * i + 1] = quad.y, x[4 * i + 2] = quad.z, x[4 * i + 3] = quad.w;
  }
}
APTM_DEVICE void LoadGroup(const BFloat16* from, float (&x)[kGroup]) {
  const uint4 words = *reinterpret_cast<const uint4*>(from);
  const std::uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = ptx::BitCast<float>(pairs[i] << 16);
    x[2 * i + 1] = ptx::BitCast<float>(pairs[i] & 0xffff0000u);
  }
}
template <typename T>
APTM_DEVICE void StoreGroup(T* to, const float (&x)[1]) {
  StoreRounded(to, x[0]);
}
APTM_DEVICE void StoreGroup(float* to, const float (&x)[kGroup]) {
  float4* const quads = reinterpret_cast<float4*>(to);
  for (int i = 0; i < 2; ++i) quads[i] = float4{x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]};
}
APTM_DEVICE void StoreGroup(BFloat16* to, const float (&x)[kGroup]) {
  std::uint32_t pairs[4];
  for (int i = 0; i < 4; ++i) pairs[i] = Bf16Bits(x[2 * i]) | static_cast<std::uint32_t>(Bf16Bits(x[2 * i + 1])) << 16;
  *reinterpret_cast<uint4*>(to) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
}

// Calls fn(i) for the first element of each of this thread's groups of n elements; n is a multiple of kWidth.
template <int kWidth, typename Fn>
APTM_DEVICE void ForGroups(std::int64_t n, const Fn& fn) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth; i < n; i += step) {
    fn(i);
  }
}

inline constexpr unsigned kAllLanes = ~0u;
inline constexpr int kWarpLanes = 32;

APTM_DEVICE float WarpSum(float x) {
  for (int by = kWarpLanes / 2; by > 0; by /= 2) x += __shfl_xor_sync(kAllLanes, x, by);
  return x;
}

// The sum over a block of kThreads threads, in every thread: over lanes, then over warps in order.
template <int kThreads>
APTM_DEVICE float BlockSum(float x) {
  constexpr int kWarps = kThreads / kWarpLanes;
  APTM_SHARED(float, warp_sums, kWarps);
  x = WarpSum(x);
  __syncthreads();  // all threads have read the result of an earlier sum
  if (threadIdx.x % kWarpLanes == 0) warp_sums[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < kWarps; ++i) sum += warp_sums[i];
  return sum;
}

// Calls fn(T()) with the element type. Host only.
template <typename Fn>
void WithElements(DType dtype, const Fn& fn) {
  if (dtype == DType::kBFloat16) return fn(BFloat16());
  fn(float());
}

struct WidthOne {
  static constexpr int kWidth = 1;
};
struct WidthGroup {
  static constexpr int kWidth = kGroup;
};
// Calls fn(width) with the widest group that all extents are multiples of. Host only.
template <typename Fn, typename... Extents>
void WithGroups(const Fn& fn, Extents... extents) {
  if (((extents % kGroup == 0) && ...)) return fn(WidthGroup());
  fn(WidthOne());
}

// Calls fn(element, width) for rows of `columns` elements of type dtype.
template <typename Fn>
void WithVariant(DType dtype, std::int64_t columns, const Fn& fn) {
  WithElements(dtype, [&](auto element) { WithGroups([&](auto group) { fn(element, group); }, columns); });
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ELEMENTS_CUH_
