#include "kernels/ops/add_rms_norm.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/reference/rms_norm.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr float kAddRmsNormEpsilon = 1e-5f;

struct AddRmsNormShape {
  int64_t t, h;
  bool delta;
};

// Outputs of the op and its gradient for one set of inputs.
struct AddRmsNormRun {
  explicit AddRmsNormRun(const AddRmsNormShape& s)
      : shape(s), sum(s.t * s.h), y(s.t * s.h), rstd(s.t), dx(s.t * s.h), dweight(s.h) {}

  void Run(TestTensor& x, TestTensor& delta, TestTensor& weight, TestTensor& dy, TestTensor& dsum, int threads,
           bool accumulate = false) {
    AddRmsNormArgs args = {
        .y = y, .rstd = rstd, .x = x, .weight = weight, .t = shape.t, .h = shape.h, .epsilon = kAddRmsNormEpsilon};
    AddRmsNormGradArgs grad = {.dx = dx,
                               .dweight = dweight,
                               .dy = dy,
                               .sum = x,
                               .rstd = rstd,
                               .weight = weight,
                               .t = shape.t,
                               .h = shape.h,
                               .accumulate_dweight = accumulate};
    if (shape.delta) {
      args.sum = sum;
      args.delta = delta;
      grad.sum = sum;
      grad.dsum = dsum;
    }
    RunKernel(CpuKernels().add_rms_norm, args, threads);
    RunKernel(CpuKernels().add_rms_norm_grad, grad, threads);
  }
  bool SameBits(const AddRmsNormRun& other) const {
    return y.SameBits(other.y) && rstd.SameBits(other.rstd) && dx.SameBits(other.dx) && dweight.SameBits(other.dweight);
  }

  AddRmsNormShape shape;
  TestTensor sum, y, rstd, dx, dweight;
};

class AddRmsNormTest : public testing::TestWithParam<AddRmsNormShape> {};

TEST_P(AddRmsNormTest, AgreesWithReference) {
  const auto [t, h, with_delta] = GetParam();
  std::mt19937 random(21);
  TestTensor x(t * h, random, 2.0f), delta(t * h, random), weight(h, random), dy(t * h, random), dsum(t * h, random);
  AddRmsNormRun got(GetParam()), two_threads(GetParam()), seven_threads(GetParam());
  got.Run(x, delta, weight, dy, dsum, 1);
  two_threads.Run(x, delta, weight, dy, dsum, 2);
  seven_threads.Run(x, delta, weight, dy, dsum, 7);
  EXPECT_TRUE(got.SameBits(two_threads) && got.SameBits(seven_threads));

  // The reference starts from the sum as the kernel rounds it; the gradient with respect to x is that with respect to
  // the sum.
  if (with_delta) {
    for (int64_t i = 0; i < t * h; ++i) ASSERT_EQ(got.sum[i], x[i] + delta[i]);
  }
  std::vector<double> sum64 = with_delta ? got.sum.ToDouble() : x.ToDouble(), weight64 = weight.ToDouble();
  const std::vector<double> dy64 = dy.ToDouble(), dsum64 = dsum.ToDouble();
  std::vector<double> want(t * h), want_rstd(t), want_dx(t * h), want_dweight(h);
  const auto forward = [&, t = t, h = h] {
    reference::RmsNorm(want.data(), want_rstd.data(), sum64.data(), weight64.data(), t, h,
                       static_cast<double>(kAddRmsNormEpsilon));
  };
  const auto loss = [&, residual = with_delta] {
    forward();
    return Dot(want, dy64) + (residual ? Dot(sum64, dsum64) : 0);
  };
  forward();
  const double forward_error = std::max(ScaledError(got.y, want), ScaledError(got.rstd, want_rstd));
  reference::RmsNormGrad(want_dx.data(), want_dweight.data(), dy64.data(), sum64.data(), weight64.data(), t, h,
                         static_cast<double>(kAddRmsNormEpsilon));
  if (with_delta) {
    for (int64_t i = 0; i < t * h; ++i) want_dx[i] += dsum64[i];
  }
  const double gradient_error = std::max({ScaledError(got.dx, want_dx), ScaledError(got.dweight, want_dweight),
                                          FiniteDifferenceError(got.dx.data(), sum64, loss, 100),
                                          FiniteDifferenceError(got.dweight.data(), weight64, loss, 100)});
  EXPECT_LT(forward_error, 1e-6);
  EXPECT_LT(gradient_error, 2e-6);
  AddToOpTable({"add_rms_norm", absl::StrCat("T=", t, " H=", h, with_delta ? " with delta" : ""), forward_error,
                gradient_error});

  got.Run(x, delta, weight, dy, dsum, 1, /*accumulate=*/true);
  EXPECT_TRUE(got.dx.SameBits(two_threads.dx));
  for (double& value : want_dweight) value *= 2;
  EXPECT_LT(ScaledError(got.dweight, want_dweight), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AddRmsNormTest,
                         testing::Values(AddRmsNormShape{1, 2, false}, AddRmsNormShape{1, 16, true},
                                         AddRmsNormShape{3, 17, true}, AddRmsNormShape{65, 80, false},
                                         AddRmsNormShape{130, 64, true}, AddRmsNormShape{17, 333, true},
                                         AddRmsNormShape{1500, 24, true}));

TEST(AddRmsNormTest, ZeroRowsStayFinite) {
  const AddRmsNormShape shape = {2, 40, false};
  std::mt19937 random(22);
  TestTensor x(80), unused(80), weight(40, random), dy(80, random);
  x.Fill(0);
  AddRmsNormRun got(shape);
  got.Run(x, unused, weight, dy, unused, 1);
  for (int64_t i = 0; i < 80; ++i) EXPECT_EQ(got.y[i], 0);
  for (int64_t i = 0; i < 80; ++i) EXPECT_TRUE(std::isfinite(got.dx[i]));
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(got.dweight[i], 0);
}

}  // namespace
}  // namespace angel_ptm
