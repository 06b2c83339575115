#include "angel_ptm/base/fixed_point.h"

#include <bit>
#include <cmath>
#include <limits>

namespace angel_ptm {
namespace {

constexpr int kFractionBits = 128;

// limbs += addend << (64 * first); true on overflow of the top limb.
bool AddAt(uint64_t (&limbs)[4], int first, uint64_t low, uint64_t high) {
  unsigned __int128 carry = 0;
  for (int i = first; i < 4; ++i) {
    const uint64_t addend = i == first ? low : i == first + 1 ? high : 0;
    carry += static_cast<unsigned __int128>(limbs[i]) + addend;
    limbs[i] = static_cast<uint64_t>(carry);
    carry >>= 64;
  }
  return carry != 0 || (first == 3 && high != 0);
}

}  // namespace

void FixedPointSum::Add(double term) {
  if (!(term >= 0) || term >= 0x1p127) {
    ++non_finite;
    return;
  }
  const uint64_t bits = std::bit_cast<uint64_t>(term);
  const int exponent = static_cast<int>(bits >> 52);
  if (exponent == 0) return;  // below 2^-1022: rounds to zero
  const uint64_t mantissa = (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1} << 52);
  const int shift = exponent - 1075 + kFractionBits;  // term = mantissa * 2^(exponent - 1075)
  if (shift < 0) {
    if (shift > -53) AddAt(limbs, 0, mantissa >> -shift, 0);
    return;
  }
  const int limb = shift / 64, within = shift % 64;
  const uint64_t high = within == 0 ? 0 : mantissa >> (64 - within);
  if (AddAt(limbs, limb, mantissa << within, high)) ++non_finite;
}

void FixedPointSum::Add(const FixedPointSum& other) {
  unsigned __int128 carry = 0;
  for (int i = 0; i < 4; ++i) {
    carry += static_cast<unsigned __int128>(limbs[i]) + other.limbs[i];
    limbs[i] = static_cast<uint64_t>(carry);
    carry >>= 64;
  }
  non_finite += other.non_finite + (carry != 0 ? 1 : 0);
}

double FixedPointSum::ToDouble() const {
  if (non_finite > 0) return std::numeric_limits<double>::quiet_NaN();
  int top = 3;
  while (top > 0 && limbs[top] == 0) --top;
  if (limbs[top] == 0) return 0;
  // The 53 leading bits, truncated: one exact conversion, so equal sums give equal doubles.
  const int lead = 63 - std::countl_zero(limbs[top]);
  uint64_t mantissa = limbs[top] << (63 - lead);
  if (lead < 63 && top > 0) mantissa |= limbs[top - 1] >> (lead + 1);
  mantissa >>= 11;
  return std::ldexp(static_cast<double>(mantissa), 64 * top + lead - 52 - kFractionBits);
}

}  // namespace angel_ptm
