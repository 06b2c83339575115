#include "kernels/cpu/rounded_tiles.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/cpu/bf16_panels.h"
#include "tests/reference/matmul.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

struct Shape {
  int64_t m, n, k;
};

void RoundToBf16(TestTensor& x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x.data()[i] = RoundedToBf16(x.data()[i]);
}

// Shapes around the borders of squares (16 x 16 sums, 32 of k), whole tiles of attention, the largest head dimension.
class RoundedTilesTest : public testing::TestWithParam<Shape> {};

TEST_P(RoundedTilesTest, AgreesWithReference) {
  const Shape s = GetParam();
  const TileRegisters registers;
  std::mt19937 random(1);
  for (const bool trans_a : {false, true}) {
    TestTensor a(s.m * s.k, random), b(s.k * s.n, random), c(s.m * s.n);
    RoundToBf16(a, s.m * s.k);
    RoundToBf16(b, s.k * s.n);
    std::vector<double> want(s.m * s.n);
    reference::Matmul(want.data(), a.ToDouble().data(), b.ToDouble().data(), s.m, s.n, s.k, trans_a,
                      /*trans_b=*/false);
    TileProduct product = {.m = s.m,
                           .n = s.n,
                           .k = s.k,
                           .a = a.data(),
                           .a_row = trans_a ? 1 : s.k,
                           .a_k = trans_a ? s.m : 1,
                           .b = b.data(),
                           .ldb = s.n,
                           .c = c.data(),
                           .ldc = s.n};
    MultiplyRoundedTiles(product);
    EXPECT_LT(ScaledError(c, want), 4e-6) << trans_a;
    product.accumulate = true;
    MultiplyRoundedTiles(product);
    for (double& value : want) value *= 2;
    EXPECT_LT(ScaledError(c, want), 4e-6) << trans_a;
  }
}

// Elements of c that the product does not have stay as they are.
TEST(RoundedTilesTest, WritesOnlyItsSums) {
  constexpr int64_t kRows = 17, kColumns = 18, kLdc = 64;
  const TileRegisters registers;
  std::mt19937 random(2);
  TestTensor a(kRows * 5, random), b(5 * kColumns, random);
  RoundToBf16(a, kRows * 5);
  RoundToBf16(b, 5 * kColumns);
  std::vector<float> c((kRows + 1) * kLdc, 7.0f);
  MultiplyRoundedTiles({.m = kRows,
                        .n = kColumns,
                        .k = 5,
                        .a = a.data(),
                        .a_row = 5,
                        .b = b.data(),
                        .ldb = kColumns,
                        .c = c.data(),
                        .ldc = kLdc});
  for (int64_t i = 0; i <= kRows; ++i) {
    for (int64_t j = 0; j < kLdc; ++j) {
      EXPECT_EQ(c[i * kLdc + j] == 7.0f, i == kRows || j >= kColumns) << i << ", " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RoundedTilesTest,
                         testing::Values(Shape{1, 1, 1}, Shape{16, 16, 32}, Shape{17, 15, 33}, Shape{16, 48, 64},
                                         Shape{64, 64, 64}, Shape{64, 64, 256}, Shape{256, 64, 64}, Shape{64, 250, 63},
                                         Shape{33, 40, 88}, Shape{88, 16, 7}));

}  // namespace
}  // namespace angel_ptm
