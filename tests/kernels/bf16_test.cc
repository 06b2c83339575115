#include "kernels/cpu/bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace angel_ptm {
namespace {

constexpr uint32_t kBf16Values = 1 << 16, kBf16Infinity = 0x7f80, kSign = 0x8000;

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }
bool IsNan(uint32_t bf16) { return (bf16 & ~kSign) > kBf16Infinity; }
BFloat16 Bf16(uint32_t bits) { return {static_cast<uint16_t>(bits)}; }

// From the definition: sign, 8 bits of exponent with bias 127, 7 of fraction.
double Decoded(uint32_t bf16) {
  const int exponent = static_cast<int>(bf16 >> 7 & 0xff), fraction = static_cast<int>(bf16 & 0x7f);
  const double magnitude = exponent == 0xff ? std::numeric_limits<double>::infinity()
                           : exponent == 0  ? std::ldexp(fraction, -126 - 7)
                                            : std::ldexp(128 + fraction, exponent - 127 - 7);
  return bf16 & kSign ? -magnitude : magnitude;
}

TEST(BFloat16Test, EveryValueWidensExactlyAndComesBack) {
  for (uint32_t bits = 0; bits < kBf16Values; ++bits) {
    const float x = ToFloat(Bf16(bits));
    if (IsNan(bits)) {
      ASSERT_TRUE(std::isnan(x)) << bits;
      ASSERT_EQ(ToBFloat16(x).bits, bits | 0x40) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(x), Decoded(bits)) << bits;
      ASSERT_EQ(std::signbit(x), (bits & kSign) != 0) << bits;
      ASSERT_EQ(ToBFloat16(x).bits, bits) << bits;
    }
  }
}

// Values between two neighbours (among them subnormals, and the largest number and infinity) round to the nearer one,
// and to the even one in a tie.
TEST(BFloat16Test, RoundsToNearestTiesToEven) {
  for (uint32_t bits = 0; bits < kBf16Values; ++bits) {
    if ((bits & ~kSign) >= kBf16Infinity) continue;
    const uint32_t next = bits + 1;  // away from zero
    ASSERT_EQ(ToBFloat16(FromBits(bits << 16 | 0x0001)).bits, bits) << bits;
    ASSERT_EQ(ToBFloat16(FromBits(bits << 16 | 0x7fff)).bits, bits) << bits;
    ASSERT_EQ(ToBFloat16(FromBits(bits << 16 | 0x8000)).bits, bits % 2 == 0 ? bits : next) << bits;
    ASSERT_EQ(ToBFloat16(FromBits(bits << 16 | 0x8001)).bits, next) << bits;
    ASSERT_EQ(ToBFloat16(FromBits(bits << 16 | 0xffff)).bits, next) << bits;
  }
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()).bits, kBf16Infinity);
  EXPECT_EQ(ToBFloat16(-std::numeric_limits<float>::max()).bits, kSign | kBf16Infinity);
}

// NaN payloads whose upper half alone would be infinity, or which rounding up would carry into the sign.
TEST(BFloat16Test, NanStaysNan) {
  for (const uint32_t bits : {0x7f800001u, 0x7f80ffffu, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7fc00000u}) {
    const uint32_t got = ToBFloat16(FromBits(bits)).bits;
    EXPECT_TRUE(IsNan(got)) << bits;
    EXPECT_EQ(got & kSign, bits >> 16 & kSign) << bits;
  }
}

TEST(BFloat16Test, Fp32PassesUnchanged) {
  for (const float x : {1.0f + std::numeric_limits<float>::epsilon(), -0.0f, 1e-45f}) {
    EXPECT_EQ(std::bit_cast<uint32_t>(Rounded<float>(ToFloat(x))), std::bit_cast<uint32_t>(x));
  }
}

// Lanes give what scalars give, and do not write after the last element.
TEST(BFloat16Test, LanesAgreeWithScalars) {
  std::vector<float> x;
  std::vector<BFloat16> halves;
  for (uint32_t bits = 0; bits < kBf16Values; bits += 3) {
    for (const uint32_t low : {0u, 0x7fffu, 0x8000u, 0x8001u}) x.push_back(FromBits(bits << 16 | low));
    for (int i = 0; i < 4; ++i) halves.push_back(Bf16(bits + static_cast<uint32_t>(i)));
  }
  const int64_t n = static_cast<int64_t>(x.size());
  ASSERT_NE(n % kVectorLanes, 0);
  const BFloat16 untouched = Bf16(0x1234);
  std::vector<BFloat16> stored(static_cast<size_t>(n) + kVectorLanes, untouched);
  std::vector<float> kept(static_cast<size_t>(n) + kVectorLanes, 7.0f);
  for (int64_t i = 0; i < n; i += kVectorLanes) {
    Vector v;
    LoadLanes(v, x.data(), i, n);
    StoreLanes(stored.data(), v, i, n);
    StoreLanes(kept.data(), v, i, n);
    LoadLanes(v, halves.data(), i, n);
    for (int64_t lane = 0; lane < kVectorLanes; ++lane) {
      const float got = v[lane], want = i + lane < n ? ToFloat(halves[static_cast<size_t>(i + lane)]) : 0.0f;
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << i + lane;
    }
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    const bool inside = static_cast<int64_t>(i) < n;
    ASSERT_EQ(stored[i].bits, inside ? ToBFloat16(x[i]).bits : untouched.bits) << i;
    ASSERT_EQ(std::bit_cast<uint32_t>(kept[i]), std::bit_cast<uint32_t>(inside ? x[i] : 7.0f)) << i;
  }
}

TEST(BFloat16Test, TheTypeOfADTypesElements) {
  int64_t bytes = 0;
  const auto element_bytes = [&](auto element) { bytes = sizeof(element); };
  WithElements(DType::kBFloat16, element_bytes);
  EXPECT_EQ(bytes, 2);
  WithElements(DType::kFloat32, element_bytes);
  EXPECT_EQ(bytes, 4);
}

// At all exponents and signs, around ties, and for NaN and infinity.
TEST(BFloat16Test, RoundingInPlaceIsRoundingAndWidening) {
  for (uint64_t high = 0; high < 1 << 16; ++high) {
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float x = std::bit_cast<float>(static_cast<uint32_t>(high) << 16 | low);
      ASSERT_EQ(std::bit_cast<uint32_t>(RoundedToBf16(x)), std::bit_cast<uint32_t>(ToFloat(ToBFloat16(x)))) << high;
    }
  }
}

}  // namespace
}  // namespace angel_ptm
