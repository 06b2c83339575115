// bf16 as stored in memory: the upper half of an fp32 value, with 8 exponent bits and 7 fraction bits. The type has no
// arithmetic.
#ifndef ANGEL_PTM_BASE_BFLOAT16_H_
#define ANGEL_PTM_BASE_BFLOAT16_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace angel_ptm {

struct BFloat16 {
  uint16_t bits = 0;
  friend bool operator==(const BFloat16&, const BFloat16&) = default;
};

inline float ToFloat(BFloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// Rounds to the nearest bf16 value, ties to even; magnitudes of 2^128 - 2^119 and above become infinite. A NaN becomes
// a quiet NaN.
inline BFloat16 ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return {static_cast<uint16_t>((value != value ? bits | 0x400000 : rounded) >> 16)};
}

// Element-wise conversion; the spans have equal length.
inline void Widen(std::span<float> out, std::span<const BFloat16> values) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = ToFloat(values[i]);
}
inline void Round(std::span<BFloat16> out, std::span<const float> values) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = ToBFloat16(values[i]);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_BFLOAT16_H_
