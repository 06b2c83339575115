#include "kernels/cpu/ordered_gemm.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/reference/matmul.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

struct Shape {
  int64_t m, n, k;
};

OrderedGemmArgs Args(TestTensor& c, TestTensor& a, TestTensor& b, const Shape& s, bool trans_a, bool trans_b) {
  return {.m = s.m,
          .n = s.n,
          .k = s.k,
          .a = a.data(),
          .a_row_stride = trans_a ? 1 : s.k,
          .a_k_stride = trans_a ? s.m : 1,
          .b = b.data(),
          .ldb = trans_b ? s.k : s.n,
          .trans_b = trans_b,
          .c = c.data(),
          .ldc = s.n};
}

// Shapes around the boundaries of register tiles (14 x 32), of panels (512 deep), of blocks (350 rows) and of a
// transposition's squares; columns that are read in place (fewer than 512) and columns that are not.
class OrderedGemmTest : public testing::TestWithParam<Shape> {};

TEST_P(OrderedGemmTest, AgreesWithReference) {
  const Shape s = GetParam();
  std::mt19937 random(1);
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      TestTensor a(s.m * s.k, random), b(s.k * s.n, random), c(s.m * s.n);
      std::vector<double> want(s.m * s.n);
      reference::Matmul(want.data(), a.ToDouble().data(), b.ToDouble().data(), s.m, s.n, s.k, trans_a, trans_b);
      OrderedGemmArgs args = Args(c, a, b, s, trans_a, trans_b);
      OrderedGemm(args);
      EXPECT_LT(ScaledError(c, want), 4e-6) << trans_a << trans_b;
      args.accumulate = true;
      OrderedGemm(args);
      for (double& value : want) value *= 2;
      EXPECT_LT(ScaledError(c, want), 4e-6) << trans_a << trans_b;
    }
  }
}

// Without rows or columns there is nothing to do. A sum over no k is 0, or the previous value if it accumulates.
TEST(OrderedGemmTest, AnyExtentMayBeZero) {
  for (const Shape& s : {Shape{0, 70, 20}, Shape{20, 0, 70}, Shape{20, 70, 0}}) {
    for (const bool trans_b : {false, true}) {
      std::mt19937 random(3);
      TestTensor a(s.m * s.k, random), b(s.k * s.n, random), c(s.m * s.n);
      OrderedGemmArgs args = Args(c, a, b, s, false, trans_b);
      OrderedGemm(args);
      for (int64_t i = 0; i < c.size(); ++i) ASSERT_EQ(c[i], 0) << i;
      c.Fill(5);
      args.accumulate = true;
      OrderedGemm(args);
      for (int64_t i = 0; i < c.size(); ++i) ASSERT_EQ(c[i], 5) << i;
    }
  }
}

// Every element equals the product of its row and its column alone, bit for bit.
TEST_P(OrderedGemmTest, AnElementIsAChainOfItsRowAndColumnAlone) {
  const Shape s = GetParam();
  std::mt19937 random(2);
  for (const bool trans_b : {false, true}) {
    TestTensor a(s.m * s.k, random), b(s.k * s.n, random), c(s.m * s.n), one(1);
    OrderedGemm(Args(c, a, b, s, false, trans_b));
    for (int64_t sample = 0; sample < 50; ++sample) {
      const int64_t i = static_cast<int64_t>(random()) % s.m, j = static_cast<int64_t>(random()) % s.n;
      OrderedGemmArgs args = Args(c, a, b, s, false, trans_b);
      args.m = args.n = 1;
      args.a += i * s.k;
      args.b += trans_b ? j * s.k : j;
      args.c = one.data();
      OrderedGemm(args);
      ASSERT_EQ(one[0], c[i * s.n + j]) << i << " " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, OrderedGemmTest,
                         testing::Values(Shape{1, 1, 1}, Shape{13, 31, 15}, Shape{14, 32, 16}, Shape{15, 33, 17},
                                         Shape{29, 64, 256}, Shape{3, 65, 257}, Shape{57, 100, 600}, Shape{300, 48, 70},
                                         Shape{4, 37, 530}, Shape{5, 550, 33}, Shape{355, 40, 1030}),
                         [](const auto& test) {
                           const Shape& s = test.param;
                           return absl::StrCat("m", s.m, "n", s.n, "k", s.k);
                         });

}  // namespace
}  // namespace angel_ptm
