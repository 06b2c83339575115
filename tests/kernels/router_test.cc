#include "tests/reference/router.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct Shape {
  int64_t t, h, e, k;
};

// Everything the op writes, and a call of it.
struct Routed {
  explicit Routed(const Shape& s) : shape(s), weights(s.t * s.k), probs(s.t * s.e), experts(s.t * s.k), counts(s.e) {}
  void Run(TestTensor& x, TestTensor& gate, int threads) {
    CpuKernels().router({.weights = weights,
                         .probs = probs,
                         .experts = experts.data(),
                         .counts = counts.data(),
                         .x = x,
                         .gate = gate,
                         .t = shape.t,
                         .h = shape.h,
                         .e = shape.e,
                         .k = shape.k},
                        TestContext(threads));
  }
  Shape shape;
  TestTensor weights, probs;
  std::vector<int32_t> experts, counts;
};

// Everything the gradient op writes, and a call of it.
struct RouterGradient {
  explicit RouterGradient(const Shape& s) : dx(s.t * s.h), dgate(s.e * s.h) {}
  void Run(const Routed& routed, TestTensor& x, TestTensor& gate, TestTensor& dweights, float coefficient,
           float target_count, int threads, bool accumulate = false) {
    const Shape& s = routed.shape;
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
  RouterReference(const Shape& s, const TestTensor& x_TH, const TestTensor& gate_EH)
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
  // Of a loss with these gradients of the weights, plus aux_scale times the load-balancing loss.
  double GradientError(const RouterGradient& got, const TestTensor& dweights, double aux_scale) {
    const std::vector<double> dweights64 = dweights.ToDouble();
    const auto loss = [&] {
      Run();
      return Dot(weights, dweights64) +
             aux_scale * reference::LoadBalancingLoss(probs.data(), counts.data(), shape.t, shape.e, shape.k);
    };
    return std::max(FiniteDifferenceError(got.dx.data(), x, loss), FiniteDifferenceError(got.dgate.data(), gate, loss));
  }
  Shape shape;
  std::vector<double> x, gate, weights, probs;
  std::vector<int32_t> experts, counts;
};

class RouterTest : public testing::TestWithParam<std::tuple<Shape, int>> {};

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
                         testing::Combine(testing::Values(Shape{1, 8, 3, 2}, Shape{3, 16, 24, 2}, Shape{65, 24, 16, 8},
                                                          Shape{65, 20, 3, 3}, Shape{64, 32, 24, 1}),
                                          testing::Values(1, 2)));

TEST(RouterTest, TiesGoToTheLowerExpert) {
  const Shape shape = {2, 4, 5, 3};
  TestTensor x(shape.t * shape.h), gate(shape.e * shape.h);
  x.Fill(1.0f);
  gate.Fill(0.0f);
  std::fill_n(gate.data() + 3 * shape.h, shape.h, 1.0f);  // expert 3 is ahead, the others equal
  Routed got(shape);
  got.Run(x, gate, 1);
  EXPECT_EQ(got.experts, (std::vector<int32_t>{3, 0, 1, 3, 0, 1}));
  EXPECT_EQ(got.counts, (std::vector<int32_t>{2, 2, 0, 2, 0}));
}

// A diverged run must reach the check for non-finite values, not write out of bounds on the way.
TEST(RouterTest, NonFiniteInputStillRoutesToDifferentExperts) {
  const Shape shape = {3, 4, 5, 2};
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

}  // namespace
}  // namespace angel_ptm
