// Conversions between elements in memory, fp32 or bf16, and the fp32 of all arithmetic. They use integer operations
// throughout, for the same bits on every instruction set (AVX-512's own conversion treats subnormals as zero).
#ifndef ANGEL_PTM_KERNELS_CPU_BF16_H_
#define ANGEL_PTM_KERNELS_CPU_BF16_H_

#include <bit>
#include <cstdint>

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// For function bodies shared by both types: fp32 passes unchanged.
inline float ToFloat(float x) { return x; }
template <typename T>
T Rounded(float x);
template <>
inline float Rounded<float>(float x) {
  return x;
}
template <>
inline BFloat16 Rounded<BFloat16>(float x) {
  return ToBFloat16(x);
}

// ToFloat(ToBFloat16(x)), without the 16-bit integers that the compiler would pack and unpack.
inline float RoundedToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return std::bit_cast<float>((x != x ? bits | 0x400000 : rounded) & 0xffff0000u);
}

// Calls fn(T()) where T is the element type of `dtype`, kFloat32 or kBFloat16.
template <typename Fn>
void WithElements(DType dtype, const Fn& fn) {
  if (dtype == DType::kBFloat16) return fn(BFloat16());
  fn(float());
}

inline constexpr int kVectorLanes = 16;
using Vector = float __attribute__((vector_size(kVectorLanes * sizeof(float))));
using UnalignedVector = float __attribute__((vector_size(kVectorLanes * sizeof(float)), aligned(4), may_alias));
using VectorBits = uint32_t __attribute__((vector_size(kVectorLanes * sizeof(uint32_t))));
using VectorHalves = uint16_t __attribute__((vector_size(kVectorLanes * sizeof(uint16_t))));
using UnalignedHalves = uint16_t __attribute__((vector_size(kVectorLanes * sizeof(uint16_t)), aligned(2), may_alias));

// LoadExtended zero-extends 16-bit elements to 32 bits; Narrow keeps the lower halves of 32-bit elements. The
// compiler's __builtin_convertvector splits 512-bit vectors, hence the intrinsics; they are the masked ones because g++
// 12 warns that the unmasked ones leave lanes undefined. Halves are read in place: a reference to them would promise
// more alignment than they have.
inline void LoadExtended(VectorBits& to, const BFloat16* x) {
  const VectorHalves halves = *reinterpret_cast<const UnalignedHalves*>(x);
#if defined(__AVX512BW__)
  to = reinterpret_cast<VectorBits>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(halves)));
#else
  to = __builtin_convertvector(halves, VectorBits);
#endif
}
inline void Narrow(VectorHalves& to, const VectorBits& from) {
#if defined(__AVX512BW__)
  to = reinterpret_cast<VectorHalves>(_mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(from)));
#else
  to = __builtin_convertvector(from, VectorHalves);
#endif
}

// to = x[0 .. kVectorLanes).
inline void LoadVector(Vector& to, const float* x) { to = *reinterpret_cast<const UnalignedVector*>(x); }
inline void LoadVector(Vector& to, const BFloat16* x) {
  VectorBits bits;
  LoadExtended(bits, x);
  to = reinterpret_cast<Vector>(bits << 16);
}

// y[0 .. kVectorLanes) = from, rounded to T as ToBFloat16 does.
inline void StoreVector(float* y, const Vector& from) { *reinterpret_cast<UnalignedVector*>(y) = from; }
inline void StoreVector(BFloat16* y, const Vector& from) {
  const VectorBits bits = reinterpret_cast<const VectorBits&>(from);
  const VectorBits rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const VectorBits either = from != from ? bits | 0x400000 : rounded;
  VectorHalves halves;
  Narrow(halves, either >> 16);
  *reinterpret_cast<UnalignedHalves*>(y) = halves;
}

// to = x[i .. i + kVectorLanes), zero from n on.
template <typename T>
inline void LoadLanes(Vector& to, const T* x, int64_t i, int64_t n) {
  if (i + kVectorLanes <= n) {
    LoadVector(to, x + i);
  } else {
    to = Vector{};
    for (int lane = 0; i + lane < n; ++lane) to[lane] = ToFloat(x[i + lane]);
  }
}

// y[i .. i + kVectorLanes) = from, rounded to T; elements from n on stay as they are.
template <typename T>
inline void StoreLanes(T* y, const Vector& from, int64_t i, int64_t n) {
  if (i + kVectorLanes <= n) {
    StoreVector(y + i, from);
  } else {
    for (int lane = 0; i + lane < n; ++lane) y[i + lane] = Rounded<T>(from[lane]);
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_BF16_H_
