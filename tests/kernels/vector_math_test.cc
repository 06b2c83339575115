#include "kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace angel_ptm {
namespace {

TEST(VectorMathTest, ExpIsWithinOneUlp) {
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4093) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const float y = Exp(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(y));
      continue;
    }
    const double want = std::exp(static_cast<double>(x));
    const float nearest = static_cast<float>(want);
    if (nearest < std::numeric_limits<float>::min()) {
      ASSERT_LE(y, std::numeric_limits<float>::min()) << x;
    } else if (std::isinf(nearest)) {
      ASSERT_EQ(y, nearest) << x;
    } else {
      const double ulp = std::nextafter(nearest, std::numeric_limits<float>::infinity()) - nearest;
      worst = std::max(worst, std::abs(static_cast<double>(y) - want) / ulp);
    }
  }
  EXPECT_LE(worst, 1.0);
}

TEST(VectorMathTest, ExpMinusOneKeepsItsDigits) {
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4093) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(ExpMinusOne(x)));
      continue;
    }
    const double want = std::expm1(static_cast<double>(x));
    const float nearest = static_cast<float>(want);
    if (std::isinf(nearest)) {
      ASSERT_EQ(ExpMinusOne(x), nearest) << x;
    } else {
      const float size = std::abs(nearest);
      const double ulp = std::nextafter(size, std::numeric_limits<float>::infinity()) - size;
      worst = std::max(worst, std::abs(static_cast<double>(ExpMinusOne(x)) - want) / ulp);
    }
  }
  EXPECT_LE(worst, 4.0);
  EXPECT_EQ(ExpMinusOne(-std::numeric_limits<float>::infinity()), -1.0f);
}

TEST(VectorMathTest, ExpOfSpecialValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-0.0f), 1.0f);
  EXPECT_EQ(Exp(-infinity), 0.0f);
  EXPECT_EQ(Exp(infinity), infinity);
}

}  // namespace
}  // namespace angel_ptm
