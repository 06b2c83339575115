#include "kernels/ops/rope_table.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/reference/rope.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct RopeTableShape {
  int64_t t, d;
  double theta, alpha;
};

class RopeTableTest : public testing::TestWithParam<RopeTableShape> {};

// The angle at position p is at most p. Its base, power, reciprocal and product are rounded to fp32, each by up to
// 2^-24 of the value, so the angle is off by up to p * 2^-22; cos and sin round once more.
TEST_P(RopeTableTest, AgreesWithReference) {
  const auto [t, d, theta, alpha] = GetParam();
  std::vector<int32_t> positions(t);
  for (int64_t i = 0; i < t; ++i) positions[i] = static_cast<int32_t>(i % 100 == 99 ? 4095 : i);
  TestTensor got(t * d), got2(t * d);
  CpuKernels().rope_table(
      {.cos_sin = got, .positions = positions.data(), .t = t, .d = d, .theta = theta, .alpha = alpha}, TestContext(1));
  CpuKernels().rope_table(
      {.cos_sin = got2, .positions = positions.data(), .t = t, .d = d, .theta = theta, .alpha = alpha}, TestContext(2));
  EXPECT_TRUE(got.SameBits(got2));
  std::vector<double> want(t * d);
  reference::RopeTable(want.data(), positions.data(), t, d, theta, alpha);
  const double error = ScaledError(got, want);
  for (int64_t i = 0; i < t * d; ++i) {
    EXPECT_NEAR(got[i], want[i], positions[i / d] * 0x1p-22 + 0x1p-24) << "position " << positions[i / d];
  }
  AddToOpTable({"rope_table", absl::StrCat("T=", t, " D=", d, " theta=", theta, " alpha=", alpha), error, {}});
}

INSTANTIATE_TEST_SUITE_P(Shapes, RopeTableTest,
                         testing::Values(RopeTableShape{1, 2, 10000, 0}, RopeTableShape{3, 8, 10000, 1000},
                                         RopeTableShape{130, 64, 10000, 0}, RopeTableShape{65, 80, 500000, 50},
                                         RopeTableShape{400, 128, 10000, 1000}));

// cos and sin of the fp32 frequencies transformers 4.57 computes for HunYuan (theta 10000, alpha 1000, D = 8): the base
// is 10000 * 1000^(8/6) = 1e8, so inv_freq is 1, 1e-2, 1e-4, 1e-6 rounded to fp32.
TEST(RopeTableTest, UsesTheFixedNtkBase) {
  const int32_t position = 3;
  TestTensor got(8);
  CpuKernels().rope_table({.cos_sin = got, .positions = &position, .t = 1, .d = 8, .theta = 10000, .alpha = 1000},
                          TestContext(1));
  const float frequency[4] = {1.0f, 1e-2f, 1e-4f, 1e-6f};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(got[2 * i], std::cos(3 * frequency[i]), 2e-7f);
    EXPECT_NEAR(got[2 * i + 1], std::sin(3 * frequency[i]), 2e-7f * (i == 0 ? 1 : frequency[i] * 10));
  }
}

}  // namespace
}  // namespace angel_ptm
