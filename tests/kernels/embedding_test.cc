#include "tests/reference/embedding.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/embedding.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct EmbeddingShape {
  int64_t t, h, v;
};

// Repeats tokens and covers both ends of the vocabulary.
std::vector<int32_t> Tokens(const EmbeddingShape& s) {
  std::vector<int32_t> tokens(s.t);
  for (int64_t i = 0; i < s.t; ++i) tokens[i] = static_cast<int32_t>(i % 3 == 2 ? s.v - 1 : i * i % s.v);
  return tokens;
}

class EmbeddingTest : public testing::TestWithParam<EmbeddingShape> {};

TEST_P(EmbeddingTest, AgreesWithReference) {
  const auto [t, h, v] = GetParam();
  const std::vector<int32_t> tokens = Tokens(GetParam());
  std::mt19937 random(20);
  TestTensor table(v * h, random), dy(t * h, random), y(t * h), y2(t * h), dtable(v * h), dtable2(v * h);
  const TestContext one(1), two(2);
  CpuKernels().embedding({.y = y, .table = table, .tokens = tokens.data(), .t = t, .h = h, .v = v}, one);
  CpuKernels().embedding({.y = y2, .table = table, .tokens = tokens.data(), .t = t, .h = h, .v = v}, two);
  EmbeddingGradArgs grad = {.dtable = dtable, .dy = dy, .tokens = tokens.data(), .t = t, .h = h, .v = v};
  CpuKernels().embedding_grad(grad, one);
  grad.dtable = dtable2;
  CpuKernels().embedding_grad(grad, two);
  EXPECT_TRUE(y.SameBits(y2) && dtable.SameBits(dtable2));

  std::vector<double> table64 = table.ToDouble(), want(t * h), want_dtable(v * h);
  const std::vector<double> dy64 = dy.ToDouble();
  reference::Embedding(want.data(), table64.data(), tokens.data(), t, h);
  reference::EmbeddingGrad(want_dtable.data(), dy64.data(), tokens.data(), t, h);
  const auto loss = [&, t = t, h = h] {
    reference::Embedding(want.data(), table64.data(), tokens.data(), t, h);
    return Dot(want, dy64);
  };
  const double forward_error = ScaledError(y, want);
  const double gradient_error =
      std::max(ScaledError(dtable, want_dtable), FiniteDifferenceError(dtable.data(), table64, loss));
  EXPECT_EQ(forward_error, 0);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({"embedding", absl::StrCat("T=", t, " H=", h, " V=", v), forward_error, gradient_error});

  grad.accumulate = true;
  CpuKernels().embedding_grad(grad, two);
  for (double& value : want_dtable) value *= 2;
  EXPECT_LT(ScaledError(dtable2, want_dtable), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmbeddingTest,
                         testing::Values(EmbeddingShape{1, 1, 1}, EmbeddingShape{3, 8, 2}, EmbeddingShape{17, 33, 5},
                                         EmbeddingShape{130, 64, 300}));

}  // namespace
}  // namespace angel_ptm
