#include "tests/reference/router.h"

#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/ops/router.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct RouterShape {
  int64_t t, h, e, k;
};

// Everything that the op writes, and a call of it.
struct Routed {
  explicit Routed(const RouterShape& s)
      : shape(s), weights(s.t * s.k), probs(s.t * s.e), experts(s.t * s.k), counts(s.e), loads(s.e, 5) {}
  void Run(TestTensor& x, TestTensor& gate, int threads) {
    CpuKernels().router({.weights = weights,
                         .probs = probs,
                         .experts = experts.data(),
                         .counts = counts.data(),
                         .loads = loads.data(),
                         .x = x,
                         .gate = gate,
                         .t = shape.t,
                         .h = shape.h,
                         .e = shape.e,
                         .k = shape.k},
                        TestContext(threads));
  }
  RouterShape shape;
  TestTensor weights, probs;
  std::vector<int32_t> experts, counts, loads;  // loads had 5 each
};

// Everything that the gradient op writes, and a call of it.
struct RouterGradient {
  explicit RouterGradient(const RouterShape& s) : dx(s.t * s.h), dgate(s.e * s.h) {}
  void Run(const Routed& routed, TestTensor& x, TestTensor& gate, TestTensor& dweights, float coefficient,
           float target_count, int threads, bool accumulate = false) {
    const RouterShape& s = routed.shape;
    const RouterGradArgs args = {.dx = dx,
                                 .dgate = dgate,
                                 .dweights = dweights,
                                 .weights = routed.weights,
                                 .probs = routed.probs,
                                 .x = x,
                                 .gate = gate,
                                 .experts = routed.experts.data(),
                                 .counts = routed.counts.data(),
                                 .target_count = &target_count,
                                 .aux_coefficient = coefficient,
                                 .t = s.t,
                                 .h = s.h,
                                 .e = s.e,
                                 .k = s.k,
                                 .accumulate_dx = accumulate,
                                 .accumulate_dgate = accumulate};
    RunKernel(CpuKernels().router_grad, args, threads);
  }
  TestTensor dx, dgate;
};

// The fp64 reference on the same operands, which may be moved for finite differences.
struct RouterReference {
  RouterReference(const RouterShape& s, const TestTensor& x_TH, const TestTensor& gate_EH)
      : shape(s),
        x(x_TH.ToDouble()),
        gate(gate_EH.ToDouble()),
        weights(s.t * s.k),
        probs(s.t * s.e),
        experts(s.t * s.k),
        counts(s.e) {
    Run();
  }
  void Run() {
    reference::Router(weights.data(), probs.data(), experts.data(), counts.data(), x.data(), gate.data(), shape.t,
                      shape.h, shape.e, shape.k);
  }
  // The loss has these gradients of the weights, plus aux_scale times the load-balancing loss.
  double GradientError(const RouterGradient& got, const TestTensor& dweights, double aux_scale) {
    const std::vector<double> dweights64 = dweights.ToDouble();
    const auto loss = [&] {
      Run();
      return Dot(weights, dweights64) +
             aux_scale * reference::LoadBalancingLoss(probs.data(), counts.data(), shape.t, shape.e, shape.k);
    };
    return std::max(FiniteDifferenceError(got.dx.data(), x, loss), FiniteDifferenceError(got.dgate.data(), gate, loss));
  }
  RouterShape shape;
  std::vector<double> x, gate, weights, probs;
  std::vector<int32_t> experts, counts;
};

class RouterTest : public testing::TestWithParam<std::tuple<RouterShape, int>> {};

TEST_P(RouterTest, AgreesWithReference) {
  const auto [shape, threads] = GetParam();
  const auto [t, h, e, k] = shape;
  std::mt19937 random(1);
  TestTensor x(t * h, random), gate(e * h, random, 0.3f), dweights(t * k, random);
  Routed got(shape);
  got.Run(x, gate, threads);
  RouterReference want(shape, x, gate);
  EXPECT_EQ(got.experts, want.experts);
  EXPECT_EQ(got.counts, want.counts);
  const double forward_error = std::max(ScaledError(got.weights, want.weights), ScaledError(got.probs, want.probs));
  EXPECT_LT(forward_error, 2e-6);

  const float target_count = 17, coefficient = 0.3f;
  RouterGradient gradient(shape);
  gradient.Run(got, x, gate, dweights, coefficient, target_count, threads);
  const double gradient_error = want.GradientError(gradient, dweights, static_cast<double>(coefficient) * target_count);
  EXPECT_LT(gradient_error, 1e-5);
  AddToOpTable({"router", absl::StrCat("T=", t, " H=", h, " E=", e, " K=", k, " threads=", threads), forward_error,
                gradient_error});

  const std::vector<float> dx1 = gradient.dx.Copy(), dgate1 = gradient.dgate.Copy();
  gradient.Run(got, x, gate, dweights, coefficient, target_count, threads, /*accumulate=*/true);
  for (int64_t i = 0; i < t * h; ++i) EXPECT_NEAR(gradient.dx[i], 2 * dx1[i], 1e-5f);
  for (int64_t i = 0; i < e * h; ++i) EXPECT_NEAR(gradient.dgate[i], 2 * dgate1[i], 1e-4f);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RouterTest,
                         testing::Combine(testing::Values(RouterShape{1, 8, 3, 2}, RouterShape{3, 16, 24, 2},
                                                          RouterShape{65, 24, 16, 8}, RouterShape{65, 20, 3, 3},
                                                          RouterShape{64, 32, 24, 1}),
                                          testing::Values(1, 2)));

TEST(RouterTest, TiesGoToTheLowerExpert) {
  const RouterShape shape = {2, 4, 5, 3};
  TestTensor x(shape.t * shape.h), gate(shape.e * shape.h);
  x.Fill(1.0f);
  gate.Fill(0.0f);
  std::fill_n(gate.data() + 3 * shape.h, shape.h, 1.0f);  // expert 3 is ahead, the others are equal
  Routed got(shape);
  got.Run(x, gate, 1);
  EXPECT_EQ(got.experts, (std::vector<int32_t>{3, 0, 1, 3, 0, 1}));
  EXPECT_EQ(got.counts, (std::vector<int32_t>{2, 2, 0, 2, 0}));
  EXPECT_EQ(got.loads, (std::vector<int32_t>{7, 7, 5, 7, 5}));
  got.Run(x, gate, 1);
  EXPECT_EQ(got.counts, (std::vector<int32_t>{2, 2, 0, 2, 0}));
  EXPECT_EQ(got.loads, (std::vector<int32_t>{9, 9, 5, 9, 5}));
}

// Logits around 100000, exact in fp32 and at most 46 apart: exp of a logit overflows, exp of their differences does
// not.
TEST(RouterTest, LargeLogitsAgreeWithReference) {
  const RouterShape shape = {65, 24, 16, 8};
  std::mt19937 random(2);
  TestTensor x(shape.t * shape.h), gate(shape.e * shape.h);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = i % shape.h == 0 ? 1.0f : static_cast<float>(random() % 3) - 1;
  for (int64_t i = 0; i < gate.size(); ++i) {
    gate[i] = i % shape.h == 0 ? 1e5f : static_cast<float>(random() % 3) - 1;
  }
  Routed got(shape);
  got.Run(x, gate, 1);
  const RouterReference want(shape, x, gate);
  EXPECT_EQ(got.experts, want.experts);
  EXPECT_LT(ScaledError(got.probs, want.probs), 2e-6);
  EXPECT_LT(ScaledError(got.weights, want.weights), 2e-6);
}

// Logits so far apart that all probabilities except one are 0, and therefore tie.
TEST(RouterTest, LogitsFarApartStayFinite) {
  const RouterShape shape = {5, 4, 6, 3};
  std::mt19937 random(3);
  TestTensor x(shape.t * shape.h), gate(shape.e * shape.h), dweights(shape.t * shape.k, random);
  x.Fill(1.0f);
  for (int64_t i = 0; i < gate.size(); ++i) gate[i] = 1e30f * static_cast<float>(i / shape.h);
  Routed got(shape);
  got.Run(x, gate, 2);
  for (int64_t t = 0; t < shape.t; ++t) {
    const int32_t* experts = got.experts.data() + t * shape.k;
    EXPECT_EQ(std::vector<int32_t>(experts, experts + shape.k), (std::vector<int32_t>{5, 0, 1}));
    for (int64_t c = 0; c < shape.k; ++c) EXPECT_EQ(got.weights[t * shape.k + c], c == 0 ? 1 : 0);
    for (int64_t e = 0; e < shape.e; ++e) EXPECT_EQ(got.probs[t * shape.e + e], e == 5 ? 1 : 0);
  }
  RouterGradient gradient(shape);
  gradient.Run(got, x, gate, dweights, 0.3f, 17, 2);
  EXPECT_TRUE(AllFinite(gradient.dx) && AllFinite(gradient.dgate));
}

TEST(RouterTest, NoAuxiliaryLossWithoutCoefficientOrTargets) {
  const RouterShape shape = {33, 16, 12, 3};
  std::mt19937 random(5);
  TestTensor x(shape.t * shape.h, random), gate(shape.e * shape.h, random, 0.3f), dweights(shape.t * shape.k, random);
  Routed routed(shape);
  routed.Run(x, gate, 1);
  RouterGradient no_coefficient(shape), no_targets(shape), both(shape);
  no_coefficient.Run(routed, x, gate, dweights, 0, 17, 1);
  no_targets.Run(routed, x, gate, dweights, 0.3f, 0, 1);
  both.Run(routed, x, gate, dweights, 0.3f, 17, 1);
  EXPECT_TRUE(no_coefficient.dx.SameBits(no_targets.dx) && no_coefficient.dgate.SameBits(no_targets.dgate));
  EXPECT_FALSE(no_coefficient.dx.SameBits(both.dx) || no_coefficient.dgate.SameBits(both.dgate));
  EXPECT_LT(RouterReference(shape, x, gate).GradientError(no_coefficient, dweights, 0), 1e-5);
}

// A diverged run must reach the check for non-finite values without writing out of bounds on the way.
TEST(RouterTest, NonFiniteInputStillRoutesToDifferentExperts) {
  const RouterShape shape = {3, 4, 5, 2};
  std::mt19937 random(4);
  TestTensor x(shape.t * shape.h, random), gate(shape.e * shape.h, random);
  x[0] = std::numeric_limits<float>::quiet_NaN();
  x[shape.h] = std::numeric_limits<float>::infinity();
  Routed got(shape);
  got.Run(x, gate, 1);
  for (int64_t t = 0; t < shape.t; ++t) {
    const int32_t first = got.experts[t * 2], second = got.experts[t * 2 + 1];
    EXPECT_TRUE(first >= 0 && first < shape.e && second >= 0 && second < shape.e && first != second);
  }
}

// A non-finite value in one token's operands reaches its dx and dgate, and changes no other token's dx.
TEST(RouterTest, NonFiniteInputIsSeenInTheGradients) {
  const RouterShape shape = {20, 16, 6, 2};
  const int64_t bad_token = 7;
  std::mt19937 random(6);
  TestTensor x(shape.t * shape.h, random), gate(shape.e * shape.h, random), dweights(shape.t * shape.k, random);
  Routed routed(shape);
  routed.Run(x, gate, 1);
  RouterGradient want(shape);
  want.Run(routed, x, gate, dweights, 0.3f, 17, 1);
  const auto not_finite = [](float value) { return !std::isfinite(value); };
  const auto expect_seen = [&](const RouterGradient& got) {
    for (int64_t t = 0; t < shape.t; ++t) {
      const float *dx = got.dx.data() + t * shape.h, *want_dx = want.dx.data() + t * shape.h;
      if (t == bad_token) {
        EXPECT_TRUE(std::all_of(dx, dx + shape.h, not_finite));
      } else {
        EXPECT_EQ(std::memcmp(dx, want_dx, static_cast<size_t>(shape.h) * sizeof(float)), 0) << t;
      }
    }
    EXPECT_TRUE(std::all_of(got.dgate.data(), got.dgate.data() + got.dgate.size(), not_finite));
  };
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    TestTensor bad_dweights(dweights.size());
    bad_dweights.CopyFrom(dweights);
    bad_dweights[bad_token * shape.k + 1] = bad;
    RouterGradient got(shape);
    got.Run(routed, x, gate, bad_dweights, 0.3f, 17, 1);
    expect_seen(got);
  }
  // What the forward pass gives for a token that was not finite: NaN probabilities.
  std::fill_n(routed.probs.data() + bad_token * shape.e, shape.e, std::numeric_limits<float>::quiet_NaN());
  RouterGradient got(shape);
  got.Run(routed, x, gate, dweights, 0.3f, 17, 1);
  expect_seen(got);
}

}  // namespace
}  // namespace angel_ptm
