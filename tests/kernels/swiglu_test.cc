#include "tests/reference/swiglu.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/swiglu.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

class SwigluTest : public testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(SwigluTest, AgreesWithReference) {
  const auto [rows, f] = GetParam();
  std::mt19937 random(1);
  TestTensor gate_up(rows * 2 * f, random, 3.0f), dy(rows * f, random);
  TestTensor y(rows * f), dgate_up(rows * 2 * f), y2(rows * f), dgate_up2(rows * 2 * f);
  const TestContext one(1), two(2);
  CpuKernels().swiglu({.y = y, .gate_up = gate_up, .rows = rows, .f = f}, one);
  CpuKernels().swiglu({.y = y2, .gate_up = gate_up, .rows = rows, .f = f}, two);
  CpuKernels().swiglu_grad({.dgate_up = dgate_up, .dy = dy, .gate_up = gate_up, .rows = rows, .f = f}, one);
  CpuKernels().swiglu_grad({.dgate_up = dgate_up2, .dy = dy, .gate_up = gate_up, .rows = rows, .f = f}, two);
  EXPECT_TRUE(y.SameBits(y2) && dgate_up.SameBits(dgate_up2));  // elementwise: threads change nothing

  std::vector<double> gate_up64 = gate_up.ToDouble(), want(rows * f), want_grad(rows * 2 * f);
  const std::vector<double> dy64 = dy.ToDouble();
  reference::Swiglu(want.data(), gate_up64.data(), rows, f);
  reference::SwigluGrad(want_grad.data(), dy64.data(), gate_up64.data(), rows, f);
  const double forward_error = ScaledError(y, want);
  const auto loss = [&] {
    reference::Swiglu(want.data(), gate_up64.data(), rows, f);
    return Dot(want, dy64);
  };
  const double gradient_error =
      std::max(ScaledError(dgate_up, want_grad), FiniteDifferenceError(dgate_up.data(), gate_up64, loss));
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({"swiglu", absl::StrCat("R=", rows, " F=", f), forward_error, gradient_error});
}

INSTANTIATE_TEST_SUITE_P(Shapes, SwigluTest,
                         testing::Values(std::pair(1, 1), std::pair(3, 5), std::pair(65, 48), std::pair(7, 257)));

TEST(SwigluTest, ExtremeGatesStayFinite) {
  const std::vector<float> gates = {-1e30f, -200.0f, -88.0f, -0.0f, 0.0f, 88.0f, 200.0f, 1e30f};
  const int64_t f = static_cast<int64_t>(gates.size());
  TestTensor gate_up(2 * f), dy(f), y(f), dgate_up(2 * f);
  std::copy(gates.begin(), gates.end(), gate_up.data());
  std::fill_n(gate_up.data() + f, f, 1.0f);
  dy.Fill(1.0f);
  CpuKernels().swiglu({.y = y, .gate_up = gate_up, .rows = 1, .f = f}, TestContext(1));
  CpuKernels().swiglu_grad({.dgate_up = dgate_up, .dy = dy, .gate_up = gate_up, .rows = 1, .f = f}, TestContext(1));
  for (int64_t i = 0; i < f; ++i) {
    EXPECT_NEAR(y[i], std::max(gates[i], 0.0f), 1e-30f + 1e-6f * std::abs(y[i])) << gates[i];
    EXPECT_NEAR(dgate_up[i], gates[i] == 0 ? 0.5f : gates[i] > 0 ? 1.0f : 0.0f, 1e-6f) << gates[i];
  }
}

TEST(SwigluTest, RowsBehindTheActiveBlocksAreNeitherReadNorWritten) {
  const int64_t block_rows = 4, blocks = 3, f = 6, rows = blocks * block_rows;
  const int32_t active_blocks = 2;
  std::mt19937 random(2);
  TestTensor gate_up(rows * 2 * f, random), dy(rows * f, random), y(rows * f), dgate_up(rows * 2 * f);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::fill(gate_up.data() + active_blocks * block_rows * 2 * f, gate_up.data() + gate_up.size(), nan);
  std::fill(dy.data() + active_blocks * block_rows * f, dy.data() + dy.size(), nan);
  const TestContext ctx(2);
  CpuKernels().swiglu(
      {.y = y, .gate_up = gate_up, .rows = rows, .f = f, .block_rows = block_rows, .active_blocks = &active_blocks},
      ctx);
  CpuKernels().swiglu_grad({.dgate_up = dgate_up,
                            .dy = dy,
                            .gate_up = gate_up,
                            .rows = rows,
                            .f = f,
                            .block_rows = block_rows,
                            .active_blocks = &active_blocks},
                           ctx);
  // The active rows hold what the op without blocks gives, which the tests above check.
  const int64_t active = active_blocks * block_rows;
  TestTensor want(rows * f), want_grad(rows * 2 * f);
  CpuKernels().swiglu({.y = want, .gate_up = gate_up, .rows = active, .f = f}, ctx);
  CpuKernels().swiglu_grad({.dgate_up = want_grad, .dy = dy, .gate_up = gate_up, .rows = active, .f = f}, ctx);
  EXPECT_TRUE(y.SameBits(want) && dgate_up.SameBits(want_grad));  // NaN behind the active rows
  for (int64_t i = 0; i < rows * f; ++i) EXPECT_EQ(std::isnan(y[i]), i >= active * f);
  for (int64_t i = 0; i < rows * 2 * f; ++i) EXPECT_EQ(std::isnan(dgate_up[i]), i >= active * 2 * f);
}

}  // namespace
}  // namespace angel_ptm
