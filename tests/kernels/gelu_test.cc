#include "tests/reference/gelu.h"

#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/ops/gelu.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

class GeluTest : public testing::TestWithParam<std::tuple<int64_t, bool>> {};

TEST_P(GeluTest, AgreesWithReference) {
  const auto [n, erf] = GetParam();
  std::mt19937 random(1);
  const TestTensor x(n, random, 3.0f), dy(n, random);
  TestTensor y(n), dx(n), y2(n), dx2(n);
  RunKernel(CpuKernels().gelu, {.y = y, .x = x, .n = n, .erf = erf}, 1);
  RunKernel(CpuKernels().gelu, {.y = y2, .x = x, .n = n, .erf = erf}, 2);
  RunKernel(CpuKernels().gelu_grad, {.dx = dx, .dy = dy, .x = x, .n = n, .erf = erf}, 1);
  RunKernel(CpuKernels().gelu_grad, {.dx = dx2, .dy = dy, .x = x, .n = n, .erf = erf}, 2);
  EXPECT_TRUE(y.SameBits(y2) && dx.SameBits(dx2));  // elementwise: threads change nothing

  std::vector<double> x64 = x.ToDouble(), want(n), want_grad(n);
  const std::vector<double> dy64 = dy.ToDouble();
  reference::Gelu(want.data(), x64.data(), n, erf);
  reference::GeluGrad(want_grad.data(), dy64.data(), x64.data(), n, erf);
  const double forward_error = ScaledError(y, want);
  const auto loss = [&] {
    reference::Gelu(want.data(), x64.data(), n, erf);
    return Dot(want, dy64);
  };
  const double gradient_error = std::max(ScaledError(dx, want_grad), FiniteDifferenceError(dx.data(), x64, loss));
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({"gelu", absl::StrCat("n=", n, erf ? " erf" : ""), forward_error, gradient_error});
}

INSTANTIATE_TEST_SUITE_P(Sizes, GeluTest, testing::Combine(testing::Values(1, 7, 257, 5000), testing::Bool()));

TEST(GeluTest, EveryFiniteNumberStaysFinite) {
  const std::vector<float> at = {-3e38f, -1e15f, -100.0f, -16.0f, -15.9f, -1e-30f, 0.0f,
                                 1e-30f, 15.9f,  16.0f,   100.0f, 1e15f,  3e38f};
  const int64_t n = static_cast<int64_t>(at.size());
  TestTensor x(n), dy(n), y(n), dx(n);
  std::copy(at.begin(), at.end(), x.data());
  dy.Fill(1.0f);
  for (const bool erf : {false, true}) {
    RunKernel(CpuKernels().gelu, {.y = y, .x = x, .n = n, .erf = erf}, 1);
    RunKernel(CpuKernels().gelu_grad, {.dx = dx, .dy = dy, .x = x, .n = n, .erf = erf}, 1);
    for (int64_t i = 0; i < n; ++i) {
      const float want = std::abs(at[i]) < 1 ? at[i] / 2 : std::max(at[i], 0.0f);
      EXPECT_NEAR(y[i], want, 1e-6f * std::abs(want)) << at[i];
      EXPECT_NEAR(dx[i], std::abs(at[i]) < 1 ? 0.5f : at[i] > 0 ? 1.0f : 0.0f, 1e-6f) << at[i];
    }
    TestTensor nan(n);
    RunKernel(CpuKernels().gelu, {.y = y, .x = nan, .n = n, .erf = erf}, 1);
    EXPECT_TRUE(std::isnan(y[0]));
  }
}

}  // namespace
}  // namespace angel_ptm
