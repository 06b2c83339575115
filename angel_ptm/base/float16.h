// IEEE binary16, as found in files written by other software: 5 exponent bits and 10 fraction bits. The type has no
// arithmetic.
#ifndef ANGEL_PTM_BASE_FLOAT16_H_
#define ANGEL_PTM_BASE_FLOAT16_H_

#include <bit>
#include <cstdint>

namespace angel_ptm {

struct Float16 {
  uint16_t bits = 0;
};

// Exact. A NaN stays a NaN.
inline float ToFloat(Float16 value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = (value.bits & 0x7fffu) << 13;
  constexpr uint32_t kInfinity = 0x7c00u << 13;
  if (magnitude >= kInfinity) return std::bit_cast<float>(sign | magnitude | 0x7f800000u);
  // The exponent bias of fp32 is larger by 112. The multiplication corrects it for subnormal values, too.
  return std::bit_cast<float>(sign | magnitude) * 0x1p112f;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FLOAT16_H_
