// The part of CUDA C++ that kernels here use, for nvcc and, emulated, for a C++ compiler. A kernel includes this file
// instead of CUDA's headers and uses only what both have: the built-in variables, __syncthreads, shuffles and votes,
// atomicAdd on integers, shared arrays by APTM_SHARED and APTM_DYNAMIC_SHARED, fp32 arithmetic and <cmath>'s functions,
// none of it contracted. Everything else is in ptx.cuh.
#ifndef ANGEL_PTM_KERNELS_CUDA_LANGUAGE_CUH_
#define ANGEL_PTM_KERNELS_CUDA_LANGUAGE_CUH_

#include <cstdint>

#ifndef ANGEL_PTM_CUDA_EMULATED
#include <cuda_runtime.h>

#define APTM_DEVICE __device__ __forceinline__
// Put before a loop whose arrays must stay in registers.
#define APTM_UNROLL _Pragma("unroll")
// Put before a loop to unroll it `times` times.
#define APTM_PRAGMA(text) _Pragma(#text)
#define APTM_UNROLL_BY(times) APTM_PRAGMA(unroll times)
// Aligned for the widest access.
#define APTM_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define APTM_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

#else
#include <cmath>
#include <cstring>

#include "kernels/cuda/emulated.h"

#define APTM_DEVICE inline __attribute__((always_inline))
#define APTM_UNROLL
#define APTM_UNROLL_BY(times)
#define APTM_SHARED(type, name, count)   \
  type* const name = static_cast<type*>( \
      ::angel_ptm::emulated::SharedArray(__FILE__, __LINE__, sizeof(type) * (count), alignof(type)))
#define APTM_DYNAMIC_SHARED(name) \
  unsigned char* const name = static_cast<unsigned char*>(::angel_ptm::emulated::DynamicShared())

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define threadIdx (::angel_ptm::emulated::Place().thread)
#define blockIdx (::angel_ptm::emulated::Place().block)
#define blockDim (::angel_ptm::emulated::Place().block_dim)
#define gridDim (::angel_ptm::emulated::Place().grid_dim)

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// The cosine and sine of pi times x.
__forceinline__ double cospi(double x) { return std::cos(3.14159265358979323846 * x); }
__forceinline__ double sinpi(double x) { return std::sin(3.14159265358979323846 * x); }
__forceinline__ void __syncthreads() { ::angel_ptm::emulated::SyncThreads(); }
__forceinline__ void __syncwarp(unsigned mask = ~0u) { ::angel_ptm::emulated::SyncWarp(mask); }

namespace angel_ptm::emulated {
template <typename T>
__forceinline__ T ShuffleValue(Shuffle kind, unsigned mask, T value, int argument, int width) {
  static_assert(sizeof(T) == sizeof(std::uint32_t));
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = ShuffleBits(kind, mask, bits, argument, width);
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}
}  // namespace angel_ptm::emulated

template <typename T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return ::angel_ptm::emulated::ShuffleValue(::angel_ptm::emulated::Shuffle::kIndex, mask, value, lane, width);
}
template <typename T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, int by, int width = 32) {
  return ::angel_ptm::emulated::ShuffleValue(::angel_ptm::emulated::Shuffle::kUp, mask, value, by, width);
}
template <typename T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, int by, int width = 32) {
  return ::angel_ptm::emulated::ShuffleValue(::angel_ptm::emulated::Shuffle::kDown, mask, value, by, width);
}
template <typename T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
  return ::angel_ptm::emulated::ShuffleValue(::angel_ptm::emulated::Shuffle::kXor, mask, value, by, width);
}
__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::angel_ptm::emulated::VoteBits(::angel_ptm::emulated::Vote::kBallot, mask, predicate != 0);
}
__forceinline__ int __any_sync(unsigned mask, int predicate) {
  return static_cast<int>(::angel_ptm::emulated::VoteBits(::angel_ptm::emulated::Vote::kAny, mask, predicate != 0));
}
__forceinline__ int __all_sync(unsigned mask, int predicate) {
  return static_cast<int>(::angel_ptm::emulated::VoteBits(::angel_ptm::emulated::Vote::kAll, mask, predicate != 0));
}
// One plus the index of the lowest set bit; 0 if no bit is set.
__forceinline__ int __ffs(int bits) { return __builtin_ffs(bits); }
__forceinline__ int atomicAdd(int* address, int value) { return ::angel_ptm::emulated::AtomicAdd(address, value); }
__forceinline__ unsigned atomicAdd(unsigned* address, unsigned value) {
  return ::angel_ptm::emulated::AtomicAdd(address, value);
}
#endif

#endif  // ANGEL_PTM_KERNELS_CUDA_LANGUAGE_CUH_
