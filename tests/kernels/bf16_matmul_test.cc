#include <gtest/gtest.h>

#include "kernels/ops/matmul.h"
#include "tests/reference/matmul.h"
#include "tests/support/bf16_sums.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

struct Bf16MatmulShape {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
};

MatmulArgs Bf16MatmulArgs(const Bf16MatmulShape& s, Operand c, const Bf16Tensor& a, const Bf16Tensor& b,
                          bool accumulate = false) {
  return {.c = c,
          .a = a,
          .b = b,
          .m = s.m,
          .n = s.n,
          .k = s.k,
          .trans_a = s.trans_a,
          .trans_b = s.trans_b,
          .accumulate = accumulate};
}

void Multiply(const MatmulArgs& args, int threads) { RunKernel(CpuKernels().matmul, args, threads); }

// fp32 results agree within the rounding of their sums. bf16 results are these rounded once, also where they are added.
void ExpectAgreement(const Bf16MatmulShape& s, int threads) {
  SCOPED_TRACE(testing::Message() << s.m << " " << s.n << " " << s.k << " " << s.trans_a << s.trans_b);
  std::mt19937 random(1);
  const Bf16Tensor a(s.m * s.k, random), b(s.k * s.n, random), before(s.m * s.n, random);
  TestTensor c(s.m * s.n), added(s.m * s.n);
  Bf16Tensor rounded(s.m * s.n), rounded_added(s.m * s.n);
  for (int64_t i = 0; i < before.size(); ++i) added[i] = before[i];
  rounded_added.CopyFrom(before);
  Multiply(Bf16MatmulArgs(s, c, a, b), threads);
  Multiply(Bf16MatmulArgs(s, rounded, a, b), threads);
  Multiply(Bf16MatmulArgs(s, added, a, b, /*accumulate=*/true), threads);
  Multiply(Bf16MatmulArgs(s, rounded_added, a, b, /*accumulate=*/true), threads);

  std::vector<double> want(s.m * s.n), magnitude(s.m * s.n);
  const std::vector<double> a64 = a.ToDouble(), b64 = b.ToDouble();
  reference::Matmul(want.data(), a64.data(), b64.data(), s.m, s.n, s.k, s.trans_a, s.trans_b);
  reference::Matmul(magnitude.data(), Magnitudes(a64).data(), Magnitudes(b64).data(), s.m, s.n, s.k, s.trans_a,
                    s.trans_b);
  EXPECT_LT(ErrorShare(c, want, magnitude, 0), 1);
  for (int64_t i = 0; i < c.size(); ++i) {
    ASSERT_EQ(rounded.data()[i].bits, ToBFloat16(c[i]).bits) << i;
    ASSERT_EQ(added[i], before[i] + c[i]) << i;
    ASSERT_EQ(rounded_added.data()[i].bits, ToBFloat16(before[i] + c[i]).bits) << i;
  }
}

TEST(Bf16MatmulTest, OddShapesAgreeWithReference) {
  const int64_t extents[] = {1, 3, 17, 31, 33, 65};
  for (const int64_t m : extents) {
    for (const int64_t n : extents) {
      for (const int64_t k : extents) {
        for (const bool trans_a : {false, true}) {
          for (const bool trans_b : {false, true})
            ExpectAgreement({m, n, k, trans_a, trans_b}, m == n && n == k ? 2 : 1);
        }
      }
    }
  }
}

// Several panels of k, blocks of rows and of columns.
TEST(Bf16MatmulTest, LargeShapesAgreeWithReference) {
  ExpectAgreement({150, 530, 525, false, true}, 2);
  ExpectAgreement({150, 33, 525, true, false}, 2);
  ExpectAgreement({70, 45, 2100, true, true}, 2);
  ExpectAgreement({3, 530, 1100}, 1);
  ExpectAgreement({3, 300, 9000, false, true}, 1);  // fewer columns at a time, so that they fit
}

// A row times a column has the same bits alone and among others, with any number of threads.
TEST(Bf16MatmulTest, BitsOfAnElementDependOnItsRowAndColumnAlone) {
  const int64_t m = 131, n = 77, k = 600;
  std::mt19937 random(2);
  const Bf16Tensor a(m * k, random), b(n * k, random);
  TestTensor whole(m * n), again(m * n);
  Multiply(Bf16MatmulArgs({m, n, k, false, true}, whole, a, b), 1);
  for (const int threads : {2, 3, 4}) {
    Multiply(Bf16MatmulArgs({m, n, k, false, true}, again, a, b), threads);
    EXPECT_TRUE(again.SameBits(whole)) << threads;
  }
  const auto expect_part = [&](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    Bf16Tensor a_part(rows * k), b_part(columns * k);
    std::copy_n(a.data() + row * k, rows * k, a_part.data());
    std::copy_n(b.data() + column * k, columns * k, b_part.data());
    TestTensor part(rows * columns);
    Multiply(Bf16MatmulArgs({rows, columns, k, false, true}, part, a_part, b_part), 1);
    for (int64_t i = 0; i < rows; ++i) {
      ASSERT_EQ(std::memcmp(&part[i * columns], &whole[(row + i) * n + column], columns * sizeof(float)), 0) << row;
    }
  };
  for (const int64_t row : {0, 13, 14, 31, 32, 130}) expect_part(row, 1, row / 2, 1);
  expect_part(5, 40, 3, 50);
  expect_part(0, m - 1, 1, n - 1);
}

// Products of few rows, as in decoding, read columns that are not packed. They have the bits of products of many rows,
// also for odd k and for columns and k that fill no tile.
TEST(Bf16MatmulTest, FewRowsHaveTheBitsOfMany) {
  const int64_t m = 40, n = 83;
  for (const int64_t k : {1, 31, 64, 525, 1061}) {
    std::mt19937 random(5);
    const Bf16Tensor a(m * k, random), b(n * k, random);
    TestTensor many(m * n), few(m * n);
    Multiply(Bf16MatmulArgs({m, n, k, false, true}, many, a, b), 1);
    for (const int64_t rows : {1, 2, 3, 4, 5}) {
      for (const int threads : {1, 2, 3}) {
        few.Fill(0);
        Multiply(Bf16MatmulArgs({rows, n, k, false, true}, few, a, b), threads);
        ASSERT_EQ(std::memcmp(few.data(), many.data(), rows * n * sizeof(float)), 0) << k << " " << rows;
      }
    }
  }
}

// The same for subnormal operands, products or sums, which instructions for pairs treat as zero.
TEST(Bf16MatmulTest, FewRowsHaveTheBitsOfManyBelowNormalNumbers) {
  const int64_t m = 40, n = 50, k = 100;
  std::mt19937 random(6);
  Bf16Tensor a(m * k, random), b(n * k, random);
  for (int64_t i = 0; i < a.size(); ++i) a.Set(i, std::ldexp(a[i], i % k % 3 == 0 ? -127 : -63));
  for (int64_t i = 0; i < b.size(); ++i) b.Set(i, std::ldexp(b[i], i % k % 3 == 0 ? 1 : -62));
  TestTensor many(m * n), few(m * n);
  Multiply(Bf16MatmulArgs({m, n, k, false, true}, many, a, b), 1);
  for (const int64_t rows : {1, 4}) {
    Multiply(Bf16MatmulArgs({rows, n, k, false, true}, few, a, b), 1);
    ASSERT_EQ(std::memcmp(few.data(), many.data(), rows * n * sizeof(float)), 0) << rows;
  }
}

// Whether a and b are transposed in memory changes no bit.
TEST(Bf16MatmulTest, TransposedOperandsGiveTheSameBits) {
  const int64_t m = 37, n = 45, k = 531;
  std::mt19937 random(3);
  const Bf16Tensor a(m * k, random), b(k * n, random);
  Bf16Tensor a_transposed(m * k), b_transposed(k * n);
  for (int64_t l = 0; l < k; ++l) {
    for (int64_t i = 0; i < m; ++i) a_transposed.data()[l * m + i] = a.data()[i * k + l];
    for (int64_t j = 0; j < n; ++j) b_transposed.data()[j * k + l] = b.data()[l * n + j];
  }
  TestTensor want(m * n), got(m * n);
  Multiply(Bf16MatmulArgs({m, n, k}, want, a, b), 1);
  Multiply(Bf16MatmulArgs({m, n, k, true, false}, got, a_transposed, b), 1);
  EXPECT_TRUE(got.SameBits(want));
  Multiply(Bf16MatmulArgs({m, n, k, true, true}, got, a_transposed, b_transposed), 2);
  EXPECT_TRUE(got.SameBits(want));
}

// NaN and infinity reach all elements of their row and column (as NaN where they meet zero) and no others.
TEST(Bf16MatmulTest, NonFiniteElementsAreSeenInTheirRowAndColumnAlone) {
  const int64_t m = 35, n = 70, k = 50, row = 17, column = 33;
  std::mt19937 random(4);
  Bf16Tensor a(m * k, random), b(k * n, random), want(m * n), got(m * n);
  Multiply(Bf16MatmulArgs({m, n, k}, want, a, b), 1);
  a.Set(row * k + k - 1, kInfinity);
  b.Set((k - 1) * n + 5, 0);
  b.Set(7 * n + column, std::numeric_limits<float>::quiet_NaN());
  Multiply(Bf16MatmulArgs({m, n, k}, got, a, b), 2);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      if (j == column || (i == row && j == 5)) {
        EXPECT_TRUE(std::isnan(got[i * n + j])) << i << " " << j;
      } else if (i == row) {
        EXPECT_TRUE(std::isinf(got[i * n + j])) << j;
      } else if (j != 5) {
        EXPECT_EQ(got.data()[i * n + j].bits, want.data()[i * n + j].bits) << i << " " << j;
      }
    }
  }
}

// A workspace for products of some extents is enough for smaller ones; grouped products rely on it.
TEST(Bf16MatmulTest, SmallerProductsNeedNoMoreWorkspace) {
  const Bf16Tensor any(1);
  const auto workspace = [&any](int64_t m, int64_t n, int64_t k) {
    return WorkspaceBytes(Bf16MatmulArgs({m, n, k}, {nullptr, DType::kFloat32}, any, any), 3);
  };
  int64_t before = 0;
  for (int64_t k = 1; k < 40000; k += 61) {
    const int64_t bytes = workspace(300, 700, k);
    EXPECT_GE(bytes, before) << k;
    EXPECT_GE(bytes, workspace(29, 700, k)) << k;
    EXPECT_GE(bytes, workspace(300, 29, k)) << k;
    EXPECT_LE(bytes, std::max<int64_t>(8 << 20, 128 * 4 * (k + 32)) + 3 * (512 << 10)) << k;
    before = bytes;
  }
}

}  // namespace
}  // namespace angel_ptm
