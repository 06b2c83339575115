#include "tests/reference/matmul.h"

#include <gtest/gtest.h>

#include <thread>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/ops/matmul.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct MatmulShape {
  int64_t m, n, k;
};

class MatmulTest : public testing::TestWithParam<std::tuple<MatmulShape, int>> {};

TEST_P(MatmulTest, AgreesWithReference) {
  const auto [shape, threads] = GetParam();
  const auto [m, n, k] = shape;
  std::mt19937 random(1);
  double forward_error = 0;
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      TestTensor a(m * k, random), b(k * n, random), c(m * n);
      std::vector<double> want(m * n);
      reference::Matmul(want.data(), a.ToDouble().data(), b.ToDouble().data(), m, n, k, trans_a, trans_b);
      MatmulArgs args = {.c = c, .a = a, .b = b, .m = m, .n = n, .k = k, .trans_a = trans_a, .trans_b = trans_b};
      CpuKernels().matmul(args, TestContext(threads));
      forward_error = std::max(forward_error, ScaledError(c, want));
      args.accumulate = true;
      CpuKernels().matmul(args, TestContext(threads));
      for (double& value : want) value *= 2;
      forward_error = std::max(forward_error, ScaledError(c, want));
    }
  }
  EXPECT_LT(forward_error, 2e-6);
  AddToOpTable({"matmul", absl::StrCat("M=", m, " N=", n, " K=", k, " threads=", threads), forward_error, {}});
}

INSTANTIATE_TEST_SUITE_P(Shapes, MatmulTest,
                         testing::Combine(testing::Values(MatmulShape{1, 1, 1}, MatmulShape{1, 40, 33},
                                                          MatmulShape{3, 5, 7}, MatmulShape{65, 24, 48},
                                                          MatmulShape{64, 96, 256}, MatmulShape{129, 130, 131}),
                                          testing::Values(1, 2, 3)));

// For y = x W^T, the gradients are products too: dx = dy W and dW = dy^T x.
TEST(MatmulTest, GradientProductsMatchFiniteDifferences) {
  for (const int64_t t : {1, 3, 65}) {
    const int64_t h = 20, n = 12;
    std::mt19937 random(2);
    TestTensor x(t * h, random), w(n * h, random), dy(t * n, random), dx(t * h), dw(n * h);
    const TestContext ctx(1);
    CpuKernels().matmul({.c = dx, .a = dy, .b = w, .m = t, .n = h, .k = n}, ctx);
    CpuKernels().matmul({.c = dw, .a = dy, .b = x, .m = n, .n = h, .k = t, .trans_a = true}, ctx);
    std::vector<double> x64 = x.ToDouble(), w64 = w.ToDouble(), y64(t * n);
    const auto loss = [&] {
      reference::Matmul(y64.data(), x64.data(), w64.data(), t, n, h, false, true);
      return Dot(y64, dy.ToDouble());
    };
    const double error =
        std::max(FiniteDifferenceError(dx.data(), x64, loss), FiniteDifferenceError(dw.data(), w64, loss));
    EXPECT_LT(error, 2e-6);
    AddToOpTable({"matmul", absl::StrCat("T=", t, " H=20 N=12"), {}, error});
  }
}

// In products of few rows, as in decoding, each row has the bits that it has alone, with any number of threads and
// rows.
TEST(MatmulTest, FewRowsHaveTheBitsOfOneRow) {
  const int64_t m = 4, n = 150, k = 531;
  std::mt19937 random(4);
  TestTensor a(m * k, random), w(n * k, random), rows(m * n), one(n);
  for (const int threads : {1, 2, 3}) {
    CpuKernels().matmul({.c = rows, .a = a, .b = w, .m = m, .n = n, .k = k, .trans_b = true}, TestContext(threads));
    for (int64_t i = 0; i < m; ++i) {
      const ConstOperand row = {a.data() + i * k};
      CpuKernels().matmul({.c = one, .a = row, .b = w, .m = 1, .n = n, .k = k, .trans_b = true}, TestContext(1));
      EXPECT_EQ(std::memcmp(one.data(), &rows[i * n], n * sizeof(float)), 0) << threads << " " << i;
    }
  }
}

// Ranks that are threads of one process call the library concurrently, also with different thread counts.
TEST(MatmulTest, ConcurrentCallersGetTheBitsOfACallerAlone) {
  const int64_t m = 96, n = 160, k = 128;
  std::mt19937 random(3);
  TestTensor a(m * k, random), b(k * n, random), alone1(m * n), alone2(m * n);
  const auto multiply = [&](TestTensor& c, int threads) {
    CpuKernels().matmul({.c = c, .a = a, .b = b, .m = m, .n = n, .k = k}, TestContext(threads));
  };
  multiply(alone1, 1);
  multiply(alone2, 2);
  EXPECT_LT(ScaledError(alone1.data(), alone2.data(), m * n), 2e-6);

  std::vector<int> wrong(4);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      TestTensor c(m * n);
      const int threads = rank == 3 ? 2 : 1;
      for (int repeat = 0; repeat < 50; ++repeat) {
        c.Fill(0);
        multiply(c, threads);
        wrong[rank] += !c.SameBits(threads == 1 ? alone1 : alone2);
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace angel_ptm
