// A sum that does not depend on the order of its terms: non-negative numbers are rounded down to multiples of 2^-128
// one by one and added as 256-bit integers, which is associative. Used for the gradient norm (ARCHITECTURE.md,
// "Numerics"), so that shard boundaries, ranks and ZeRO stages do not change its bits.
#ifndef ANGEL_PTM_BASE_FIXED_POINT_H_
#define ANGEL_PTM_BASE_FIXED_POINT_H_

#include <cstdint>

namespace angel_ptm {

// Plain data that may be copied between ranks as bytes. Value = sum limbs[i] * 2^(64*i - 128), below 2^128.
struct FixedPointSum {
  uint64_t limbs[4] = {0, 0, 0, 0};
  uint64_t non_finite = 0;  // number of terms that were NaN, infinite, negative, or overflowed

  // Adds one non-negative term.
  void Add(double term);
  void Add(const FixedPointSum& other);
  // The largest double that does not exceed the exact sum; NaN if non_finite > 0.
  double ToDouble() const;

  friend bool operator==(const FixedPointSum&, const FixedPointSum&) = default;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FIXED_POINT_H_
