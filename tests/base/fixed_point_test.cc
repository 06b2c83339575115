#include "angel_ptm/base/fixed_point.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

FixedPointSum SumOf(const std::vector<double>& terms) {
  FixedPointSum sum;
  for (double term : terms) sum.Add(term);
  return sum;
}

// Squares of numbers whose range is that of gradients.
std::vector<double> Squares(int count) {
  std::vector<double> squares;
  for (int i = 0; i < count; ++i) {
    const double x = std::ldexp(RandomNormal(7, RandomPurpose::kTest, 0, i), i % 40 - 20);
    squares.push_back(x * x);
  }
  return squares;
}

TEST(FixedPointSum, DoesNotDependOnOrder) {
  std::vector<double> terms = Squares(3000);
  const FixedPointSum forward = SumOf(terms);
  std::reverse(terms.begin(), terms.end());
  EXPECT_EQ(SumOf(terms), forward);
  std::sort(terms.begin(), terms.end());
  EXPECT_EQ(SumOf(terms), forward);
  double naive = 0;
  for (double term : Squares(3000)) naive += term;
  EXPECT_NEAR(forward.ToDouble(), naive, naive * 1e-12);
}

TEST(FixedPointSum, DoesNotDependOnGrouping) {
  const std::vector<double> terms = Squares(1000);
  const FixedPointSum whole = SumOf(terms);
  for (size_t parts : {2, 3, 7, 1000}) {
    FixedPointSum sum;
    for (size_t part = 0; part < parts; ++part) {
      const size_t begin = terms.size() * part / parts, end = terms.size() * (part + 1) / parts;
      sum.Add(SumOf({terms.begin() + begin, terms.begin() + end}));
    }
    EXPECT_EQ(sum, whole) << parts << " parts";
  }
}

TEST(FixedPointSum, IsExactForRepresentableTerms) {
  for (double x : {0.0, 1.0, 3.0, 0x1p-128, 0x1.8p-100, 0x1p100, 123456789.0, 0x1.fffffffffffffp126}) {
    EXPECT_EQ(SumOf({x}).ToDouble(), x) << x;
  }
  // 2^100 + 2^-100 needs 200 bits: the sum keeps them all, and only the conversion rounds, down.
  FixedPointSum sum = SumOf({0x1p100, 0x1p-100});
  EXPECT_EQ(sum.ToDouble(), 0x1p100);
  EXPECT_NE(sum, SumOf({0x1p100}));
  // Carries run through all limbs.
  EXPECT_EQ(SumOf(std::vector<double>(4096, 0x1p-20)).ToDouble(), 0x1p-8);
  EXPECT_EQ(SumOf({0x1.fffffffffffffp-1, 0x1p-53}).ToDouble(), 1.0);
}

TEST(FixedPointSum, RoundsDownBelowItsResolution) {
  EXPECT_EQ(SumOf({0x1p-129}), FixedPointSum());
  EXPECT_EQ(SumOf({0x1.8p-128}).ToDouble(), 0x1p-128);
  EXPECT_EQ(SumOf({0x1p-181, 0x1p-1000, std::numeric_limits<double>::denorm_min()}), FixedPointSum());
}

TEST(FixedPointSum, CountsWhatHasNoValue) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  FixedPointSum sum = SumOf({1.0, nan, infinity, -1.0, 0x1p127, 2.0});
  EXPECT_EQ(sum.non_finite, 4u);
  EXPECT_TRUE(std::isnan(sum.ToDouble()));
  FixedPointSum other;
  other.Add(sum);
  EXPECT_EQ(other.non_finite, 4u);
}

TEST(FixedPointSum, OverflowIsNotSilent) {
  FixedPointSum sum;
  for (int i = 0; i < 4; ++i) sum.Add(0x1p126);  // 2^128 is one more than the sum holds
  EXPECT_GT(sum.non_finite, 0u);
  FixedPointSum half = SumOf({0x1p126, 0x1p126});
  half.Add(FixedPointSum(half));
  EXPECT_GT(half.non_finite, 0u);
}

}  // namespace
}  // namespace angel_ptm
