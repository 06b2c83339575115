#include "tests/reference/linear_cross_entropy.h"

#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct LinearCrossEntropyShape {
  int64_t t, h, v, chunk_tokens;
};

struct LossRun {
  explicit LossRun(const LinearCrossEntropyShape& s) : shape(s), token_loss(s.t), dx(s.t * s.h), dweight(s.v * s.h) {}
  void Run(TestTensor& x, TestTensor& weight, const std::vector<int32_t>& targets, int threads, bool gradient,
           bool accumulate = false) {
    LinearCrossEntropyArgs args = {.token_loss = token_loss,
                                   .x = x,
                                   .weight = weight,
                                   .targets = targets.data(),
                                   .t = shape.t,
                                   .h = shape.h,
                                   .v = shape.v,
                                   .chunk_tokens = shape.chunk_tokens,
                                   .accumulate_dweight = accumulate};
    if (gradient) {
      args.dx = dx;
      args.dweight = dweight;
    }
    RunKernel(CpuKernels().linear_cross_entropy, args, threads);
  }
  LinearCrossEntropyShape shape;
  TestTensor token_loss, dx, dweight;
};

// Every fifth target is masked; the others cover the first and last token of the vocabulary.
std::vector<int32_t> Targets(const LinearCrossEntropyShape& s) {
  std::vector<int32_t> targets(s.t);
  for (int64_t i = 0; i < s.t; ++i) targets[i] = i % 5 == 4 ? -1 : static_cast<int32_t>((i * (s.v - 1)) % s.v);
  return targets;
}

class LinearCrossEntropyTest : public testing::TestWithParam<std::tuple<LinearCrossEntropyShape, int>> {};

TEST_P(LinearCrossEntropyTest, AgreesWithReference) {
  const auto [shape, threads] = GetParam();
  const auto [t, h, v, chunk_tokens] = shape;
  std::mt19937 random(8);
  TestTensor x(t * h, random), weight(v * h, random, 0.5f);
  const std::vector<int32_t> targets = Targets(shape);
  LossRun got(shape), loss_only(shape);
  got.Run(x, weight, targets, threads, true);
  loss_only.Run(x, weight, targets, threads, false);

  std::vector<double> x64 = x.ToDouble(), weight64 = weight.ToDouble(), want(t), want_dx(t * h), want_dweight(v * h);
  reference::LinearCrossEntropy(want.data(), want_dx.data(), want_dweight.data(), x64.data(), weight64.data(),
                                targets.data(), t, h, v);
  const double forward_error = std::max(ScaledError(got.token_loss, want), ScaledError(loss_only.token_loss, want));
  EXPECT_LT(forward_error, 2e-6);
  for (int64_t i = 4; i < t; i += 5) EXPECT_EQ(got.token_loss[i], 0);

  const auto loss = [&, t = t, h = h, v = v] {
    std::vector<double> token_loss(t);
    reference::LinearCrossEntropy(token_loss.data(), nullptr, nullptr, x64.data(), weight64.data(), targets.data(), t,
                                  h, v);
    double sum = 0;
    for (const double value : token_loss) sum += value;
    return sum;
  };
  const double gradient_error = std::max({ScaledError(got.dx, want_dx), ScaledError(got.dweight, want_dweight),
                                          FiniteDifferenceError(got.dx.data(), x64, loss, 20),
                                          FiniteDifferenceError(got.dweight.data(), weight64, loss, 20)});
  EXPECT_LT(gradient_error, 4e-6);
  AddToOpTable({"linear_cross_entropy",
                absl::StrCat("T=", t, " H=", h, " V=", v, " chunk=", chunk_tokens, " threads=", threads), forward_error,
                gradient_error});

  got.Run(x, weight, targets, threads, true, /*accumulate=*/true);
  EXPECT_LT(ScaledError(got.dx, want_dx), 4e-6);
  for (double& value : want_dweight) value *= 2;
  EXPECT_LT(ScaledError(got.dweight, want_dweight), 4e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearCrossEntropyTest,
                         testing::Combine(testing::Values(LinearCrossEntropyShape{1, 8, 2, 16},
                                                          LinearCrossEntropyShape{3, 16, 33, 2},
                                                          LinearCrossEntropyShape{65, 24, 257, 16},
                                                          LinearCrossEntropyShape{64, 32, 1000, 64}),
                                          testing::Values(1, 2)));

TEST(LinearCrossEntropyTest, LargeLogitsStayFinite) {
  const LinearCrossEntropyShape shape = {2, 4, 50, 2};
  std::mt19937 random(9);
  TestTensor x(shape.t * shape.h, random, 100.0f), weight(shape.v * shape.h, random, 100.0f);
  const std::vector<int32_t> targets = {7, 49};
  LossRun got(shape);
  got.Run(x, weight, targets, 1, true);
  std::vector<double> want(shape.t), dx(shape.t * shape.h), dweight(shape.v * shape.h);
  reference::LinearCrossEntropy(want.data(), dx.data(), dweight.data(), x.ToDouble().data(), weight.ToDouble().data(),
                                targets.data(), shape.t, shape.h, shape.v);
  EXPECT_LT(ScaledError(got.token_loss, want), 1e-6);
  EXPECT_LT(ScaledError(got.dx, dx), 1e-6);
  EXPECT_LT(ScaledError(got.dweight, dweight), 1e-6);
}

// A token whose logits are not finite has a non-finite loss and gradient, and changes no other token's bits. The loss
// behaves so with and without gradients.
TEST(LinearCrossEntropyTest, NonFiniteLogitsAreSeenInTheirTokenAlone) {
  const LinearCrossEntropyShape shape = {19, 24, 300, 8};
  const int64_t bad_token = 10;
  std::vector<int32_t> targets = Targets(shape);
  ASSERT_GE(targets[bad_token], 0);
  std::mt19937 random(11);
  TestTensor x(shape.t * shape.h, random), weight(shape.v * shape.h, random, 0.5f);
  LossRun want(shape), got(shape), loss_only(shape);
  want.Run(x, weight, targets, 2, true);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    x[bad_token * shape.h + 5] = bad;
    got.Run(x, weight, targets, 2, true);
    loss_only.Run(x, weight, targets, 2, false);
    for (int64_t t = 0; t < shape.t; ++t) {
      const auto dx_bytes = static_cast<size_t>(shape.h) * sizeof(float);
      const float *dx = got.dx.data() + t * shape.h, *want_dx = want.dx.data() + t * shape.h;
      if (t == bad_token) {
        EXPECT_FALSE(std::isfinite(got.token_loss[t]) || std::isfinite(loss_only.token_loss[t]));
        EXPECT_TRUE(std::none_of(dx, dx + shape.h, [](float value) { return std::isfinite(value); }));
      } else {
        EXPECT_TRUE(got.token_loss[t] == want.token_loss[t] && std::memcmp(dx, want_dx, dx_bytes) == 0) << t;
        EXPECT_TRUE(std::isfinite(loss_only.token_loss[t]));
      }
    }
    EXPECT_TRUE(std::none_of(got.dweight.data(), got.dweight.data() + got.dweight.size(),
                             [](float value) { return std::isfinite(value); }));
  }
}

// One bad row of the weight gives every token a bad logit.
TEST(LinearCrossEntropyTest, ANonFiniteWeightIsSeenInEveryLoss) {
  const LinearCrossEntropyShape shape = {9, 16, 70, 4};
  std::mt19937 random(12);
  TestTensor x(shape.t * shape.h, random), weight(shape.v * shape.h, random);
  weight[33 * shape.h] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<int32_t> targets(shape.t, 1);
  LossRun got(shape), loss_only(shape);
  got.Run(x, weight, targets, 1, true);
  loss_only.Run(x, weight, targets, 1, false);
  for (int64_t t = 0; t < shape.t; ++t) {
    EXPECT_TRUE(std::isnan(got.token_loss[t]) && std::isnan(loss_only.token_loss[t])) << t;
  }
}

TEST(LinearCrossEntropyTest, AllTargetsMaskedGivesZeroGradients) {
  const LinearCrossEntropyShape shape = {5, 8, 20, 4};
  std::mt19937 random(10);
  TestTensor x(shape.t * shape.h, random), weight(shape.v * shape.h, random);
  LossRun got(shape);
  got.Run(x, weight, std::vector<int32_t>(shape.t, -1), 2, true);
  for (int64_t i = 0; i < got.dx.size(); ++i) EXPECT_EQ(got.dx[i], 0);
  for (int64_t i = 0; i < got.dweight.size(); ++i) EXPECT_EQ(got.dweight[i], 0);
}

}  // namespace
}  // namespace angel_ptm
