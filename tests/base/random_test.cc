#include "angel_ptm/base/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace angel_ptm {
namespace {

// Known answers of Philox 4x32-10 from the Random123 distribution (kat_vectors).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox({ones, ones, ones, ones}, {ones, ones}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomWords, EveryKeyPartMatters) {
  const auto reference = RandomWords(1, RandomPurpose::kTest, 2, 3);
  EXPECT_EQ(RandomWords(1, RandomPurpose::kTest, 2, 3), reference);
  EXPECT_NE(RandomWords(2, RandomPurpose::kTest, 2, 3), reference);
  EXPECT_NE(RandomWords(uint64_t{1} | uint64_t{1} << 32, RandomPurpose::kTest, 2, 3), reference);
  EXPECT_NE(RandomWords(1, RandomPurpose::kSampling, 2, 3), reference);
  EXPECT_NE(RandomWords(1, RandomPurpose::kTest, 3, 3), reference);
  EXPECT_NE(RandomWords(1, RandomPurpose::kTest, 2, 4), reference);
  EXPECT_NE(RandomWords(1, RandomPurpose::kTest, 2, uint64_t{3} | uint64_t{1} << 32), reference);
}

TEST(RandomNormal, HasTheMomentsOfANormal) {
  constexpr int kCount = 200000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = RandomNormal(42, RandomPurpose::kTest, 0, i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors.
  EXPECT_NEAR(sum / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3, 5 * std::sqrt(96.0 / kCount));
}

TEST(ToUniform, StaysInsideTheOpenInterval) {
  EXPECT_GT(ToUniform(0), 0);
  EXPECT_LT(ToUniform(0xffffffff), 1);
}

}  // namespace
}  // namespace angel_ptm
