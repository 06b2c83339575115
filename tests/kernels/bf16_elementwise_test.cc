// The bf16 variants of swiglu, gelu, add and embedding: each result is the fp64 reference on the same bf16 inputs,
// rounded once.
#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/add.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/swiglu.h"
#include "tests/reference/embedding.h"
#include "tests/reference/gelu.h"
#include "tests/reference/swiglu.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr double kBf16ElementwiseFp32Error = 1e-6;  // of the arithmetic before the rounding, over the largest value

class Bf16SwigluTest : public testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(Bf16SwigluTest, AgreesWithReference) {
  const auto [rows, f] = GetParam();
  std::mt19937 random(1);
  Bf16Tensor gate_up(rows * 2 * f, random, 3.0f), dy(rows * f, random), y(rows * f), dgate_up(rows * 2 * f);
  RunKernel(CpuKernels().swiglu, {.y = y, .gate_up = gate_up, .rows = rows, .f = f}, 1);
  RunKernel(CpuKernels().swiglu_grad, {.dgate_up = dgate_up, .dy = dy, .gate_up = gate_up, .rows = rows, .f = f}, 1);
  for (const int threads : {2, 3, 4}) {
    Bf16Tensor y2(rows * f), dgate_up2(rows * 2 * f);
    RunKernel(CpuKernels().swiglu, {.y = y2, .gate_up = gate_up, .rows = rows, .f = f}, threads);
    RunKernel(CpuKernels().swiglu_grad, {.dgate_up = dgate_up2, .dy = dy, .gate_up = gate_up, .rows = rows, .f = f},
              threads);
    EXPECT_TRUE(y.SameBits(y2) && dgate_up.SameBits(dgate_up2));
  }
  std::vector<double> want(rows * f), want_grad(rows * 2 * f);
  reference::Swiglu(want.data(), gate_up.ToDouble().data(), rows, f);
  reference::SwigluGrad(want_grad.data(), dy.ToDouble().data(), gate_up.ToDouble().data(), rows, f);
  EXPECT_LT(ErrorBeyondRounding(y, want), kBf16ElementwiseFp32Error);
  EXPECT_LT(ErrorBeyondRounding(dgate_up, want_grad), kBf16ElementwiseFp32Error);
  AddToOpTable(
      {"swiglu bf16", absl::StrCat("R=", rows, " F=", f), ScaledError(y, want), ScaledError(dgate_up, want_grad)});
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16SwigluTest,
                         testing::Values(std::pair(1, 1), std::pair(3, 5), std::pair(65, 48), std::pair(7, 257)));

TEST(Bf16SwigluTest, NanStaysInItsElement) {
  const int64_t f = 70;
  std::mt19937 random(2);
  Bf16Tensor gate_up(2 * f, random), dy(f, random), y(f), dgate_up(2 * f);
  gate_up.Set(3, kNan);
  gate_up.Set(f + 66, kNan);
  RunKernel(CpuKernels().swiglu, {.y = y, .gate_up = gate_up, .rows = 1, .f = f}, 1);
  RunKernel(CpuKernels().swiglu_grad, {.dgate_up = dgate_up, .dy = dy, .gate_up = gate_up, .rows = 1, .f = f}, 1);
  for (int64_t i = 0; i < f; ++i) {
    EXPECT_EQ(std::isnan(y[i]), i == 3 || i == 66) << i;
    EXPECT_EQ(std::isnan(dgate_up[i]), i == 3 || i == 66) << i;  // of gate
    EXPECT_EQ(std::isnan(dgate_up[f + i]), i == 3) << i;         // of up
  }
}

TEST(Bf16SwigluTest, RowsBehindTheActiveBlocksAreNotWritten) {
  const int64_t block_rows = 4, rows = 12, f = 6;
  const int32_t active_blocks = 2;
  std::mt19937 random(2);
  Bf16Tensor gate_up(rows * 2 * f, random), dy(rows * f, random), y(rows * f), dgate_up(rows * 2 * f);
  const SwigluArgs args = {
      .y = y, .gate_up = gate_up, .rows = rows, .f = f, .block_rows = block_rows, .active_blocks = &active_blocks};
  RunKernel(CpuKernels().swiglu, args, 2);
  const SwigluGradArgs grad = {.dgate_up = dgate_up,
                               .dy = dy,
                               .gate_up = gate_up,
                               .rows = rows,
                               .f = f,
                               .block_rows = block_rows,
                               .active_blocks = &active_blocks};
  RunKernel(CpuKernels().swiglu_grad, grad, 2);
  EXPECT_TRUE(y.NoneNan(0, 8 * f) && y.AllNan(8 * f, rows * f));
  EXPECT_TRUE(dgate_up.NoneNan(0, 8 * 2 * f) && dgate_up.AllNan(8 * 2 * f, rows * 2 * f));
}

class Bf16GeluTest : public testing::TestWithParam<int64_t> {};

TEST_P(Bf16GeluTest, AgreesWithReference) {
  const int64_t n = GetParam();
  std::mt19937 random(1);
  const Bf16Tensor x(n, random, 3.0f), dy(n, random);
  Bf16Tensor y(n), dx(n);
  RunKernel(CpuKernels().gelu, {.y = y, .x = x, .n = n}, 1);
  RunKernel(CpuKernels().gelu_grad, {.dx = dx, .dy = dy, .x = x, .n = n}, 1);
  for (const int threads : {2, 3, 4}) {
    Bf16Tensor y2(n), dx2(n);
    RunKernel(CpuKernels().gelu, {.y = y2, .x = x, .n = n}, threads);
    RunKernel(CpuKernels().gelu_grad, {.dx = dx2, .dy = dy, .x = x, .n = n}, threads);
    EXPECT_TRUE(y.SameBits(y2) && dx.SameBits(dx2));
  }
  std::vector<double> want(n), want_grad(n);
  reference::Gelu(want.data(), x.ToDouble().data(), n);
  reference::GeluGrad(want_grad.data(), dy.ToDouble().data(), x.ToDouble().data(), n);
  EXPECT_LT(ErrorBeyondRounding(y, want), kBf16ElementwiseFp32Error);
  EXPECT_LT(ErrorBeyondRounding(dx, want_grad), kBf16ElementwiseFp32Error);
  AddToOpTable({"gelu bf16", absl::StrCat("n=", n), ScaledError(y, want), ScaledError(dx, want_grad)});
}

INSTANTIATE_TEST_SUITE_P(Sizes, Bf16GeluTest, testing::Values(1, 7, 257, 5000));

TEST(Bf16GeluTest, NanStaysInItsElement) {
  const int64_t n = 50;
  std::mt19937 random(3);
  Bf16Tensor x(n, random), dy(n, random), y(n), dx(n);
  x.Set(33, kNan);
  dy.Set(49, kNan);
  RunKernel(CpuKernels().gelu, {.y = y, .x = x, .n = n}, 1);
  RunKernel(CpuKernels().gelu_grad, {.dx = dx, .dy = dy, .x = x, .n = n}, 1);
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(std::isnan(y[i]), i == 33) << i;
    EXPECT_EQ(std::isnan(dx[i]), i == 33 || i == 49) << i;
  }
}

struct Bf16AddShape {
  int64_t rows, width, begin, end;
};
class Bf16AddTest : public testing::TestWithParam<Bf16AddShape> {};

TEST_P(Bf16AddTest, AgreesWithReference) {
  const auto [rows, width, begin, end] = GetParam();
  std::mt19937 random(1);
  const Bf16Tensor x(rows * width, random), before(rows * width, random);
  for (const bool accumulate : {false, true}) {
    std::vector<double> want(rows * width);
    for (int64_t i = 0; i < rows * width; ++i) {
      const bool inside = i % width >= begin && i % width < end;
      want[i] = (accumulate ? static_cast<double>(before[i]) : 0) + (inside ? static_cast<double>(x[i]) : 0);
    }
    for (const int threads : {1, 2, 4}) {
      Bf16Tensor y(rows * width);
      if (accumulate) y.CopyFrom(before);
      const AddArgs args = {.y = y,
                            .x = x,
                            .rows = rows,
                            .width = width,
                            .column_begin = begin,
                            .column_end = end,
                            .accumulate = accumulate};
      RunKernel(CpuKernels().add, args, threads);
      EXPECT_LT(ErrorBeyondRounding(y, want), 1e-7);
      AddToOpTable({"add bf16", absl::StrCat("R=", rows, " W=", width), ScaledError(y, want), {}});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16AddTest,
                         testing::Values(Bf16AddShape{1, 1, 0, 1}, Bf16AddShape{5, 7, 0, 7},
                                         Bf16AddShape{65, 48, 16, 32}, Bf16AddShape{3, 2000, 1999, 2000},
                                         Bf16AddShape{4097, 1, 0, 1}));

TEST(Bf16AddTest, OfNothingIsZero) {
  Bf16Tensor y(5000);
  const AddArgs args = {.y = y, .rows = 50, .width = 100, .column_end = 100};
  EXPECT_TRUE(CpuKernels().add.can_run(args).ok());
  RunKernel(CpuKernels().add, args, 2);
  for (int64_t i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i].bits, 0);
}

struct Bf16EmbeddingShape {
  int64_t t, h, v;
};
class Bf16EmbeddingTest : public testing::TestWithParam<Bf16EmbeddingShape> {
 protected:
  Bf16EmbeddingTest() : tokens_(static_cast<size_t>(GetParam().t)) {
    const auto [t, h, v] = GetParam();
    for (int64_t i = 0; i < t; ++i) tokens_[i] = static_cast<int32_t>(i % 3 == 2 ? v - 1 : i * i % v);
  }
  EmbeddingGradArgs Grad(Operand dtable, ConstOperand dy, bool accumulate) const {
    const auto [t, h, v] = GetParam();
    return {.dtable = dtable, .dy = dy, .tokens = tokens_.data(), .t = t, .h = h, .v = v, .accumulate = accumulate};
  }
  std::vector<int32_t> tokens_;
};

TEST_P(Bf16EmbeddingTest, AgreesWithReference) {
  const auto [t, h, v] = GetParam();
  std::mt19937 random(20);
  Bf16Tensor table(v * h, random), dy(t * h, random), before(v * h, random);
  std::vector<double> want(t * h), want_dtable(v * h), want_sum = before.ToDouble();
  reference::Embedding(want.data(), table.ToDouble().data(), tokens_.data(), t, h);
  reference::EmbeddingGrad(want_dtable.data(), dy.ToDouble().data(), tokens_.data(), t, h);
  for (int64_t i = 0; i < v * h; ++i) want_sum[i] += want_dtable[i];
  for (const int threads : {1, 2, 3, 4}) {
    Bf16Tensor y(t * h), dtable(v * h), dtable_sum(v * h);
    RunKernel(CpuKernels().embedding, {.y = y, .table = table, .tokens = tokens_.data(), .t = t, .h = h, .v = v},
              threads);
    EXPECT_EQ(ScaledError(y, want), 0);
    RunKernel(CpuKernels().embedding_grad, Grad(dtable, dy, false), threads);
    EXPECT_LT(ErrorBeyondRounding(dtable, want_dtable), kBf16ElementwiseFp32Error);
    dtable_sum.CopyFrom(before);
    RunKernel(CpuKernels().embedding_grad, Grad(dtable_sum, dy, true), threads);
    EXPECT_LT(ErrorBeyondRounding(dtable_sum, want_sum), kBf16ElementwiseFp32Error);
    TestTensor dtable32(v * h);
    RunKernel(CpuKernels().embedding_grad, Grad(dtable32, dy, false), threads);
    EXPECT_LT(ScaledError(dtable32, want_dtable), kBf16ElementwiseFp32Error);
    AddToOpTable({"embedding bf16", absl::StrCat("T=", t, " H=", h, " V=", v), ScaledError(y, want),
                  ScaledError(dtable, want_dtable)});
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16EmbeddingTest,
                         testing::Values(Bf16EmbeddingShape{1, 1, 1}, Bf16EmbeddingShape{3, 8, 2},
                                         Bf16EmbeddingShape{17, 33, 5}, Bf16EmbeddingShape{130, 64, 300},
                                         Bf16EmbeddingShape{40, 600, 7}));

// 1000 shares of 1/256 beside a 1: if each sum were rounded, every share would be lost.
TEST(Bf16EmbeddingTest, ManySmallSharesOfATokenAreNotLost) {
  const int64_t t = 1001, h = 3;
  const std::vector<int32_t> tokens(t, 1);
  Bf16Tensor dy(t * h), dtable(2 * h);
  for (int64_t i = 0; i < t * h; ++i) dy.Set(i, i < h ? 1.0f : 1.0f / 256);
  RunKernel(CpuKernels().embedding_grad, {.dtable = dtable, .dy = dy, .tokens = tokens.data(), .t = t, .h = h, .v = 2},
            1);
  for (int64_t i = 0; i < h; ++i) {
    EXPECT_EQ(dtable[i], 0);
    EXPECT_EQ(dtable[h + i], ToFloat(ToBFloat16(1 + 1000.0f / 256)));
  }
}

}  // namespace
}  // namespace angel_ptm
