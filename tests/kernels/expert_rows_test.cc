// expert_layout, dispatch and combine: tokens to expert rows and back.
#include <gtest/gtest.h>

#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "tests/reference/combine.h"
#include "tests/reference/dispatch.h"
#include "tests/reference/expert_layout.h"
#include "tests/support/expert_routing.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr int64_t kH = 19;

class ExpertRowsTest : public testing::TestWithParam<RoutingShape> {
 protected:
  ExpertRowsTest() : random_(5), layout_(GetParam(), RouteTokens(GetParam(), random_)) {}

  // Fills the rows after the active blocks with NaN: no kernel may read them.
  void PoisonInactive(TestTensor& rows_RH) const {
    std::fill(rows_RH.data() + layout_.active_rows() * kH, rows_RH.data() + rows_RH.size(),
              std::numeric_limits<float>::quiet_NaN());
  }
  void ExpectInactiveUntouched(const TestTensor& rows_RH) const {
    for (int64_t i = layout_.active_rows() * kH; i < rows_RH.size(); ++i) EXPECT_TRUE(std::isnan(rows_RH[i]));
  }
  void ExpectZeroWithoutRow(const TestTensor& dweights) const {
    for (int64_t pair = 0; pair < dweights.size(); ++pair) {
      EXPECT_TRUE(layout_.row_of_pair[pair] >= 0 || dweights[pair] == 0) << pair;
    }
  }

  std::mt19937 random_;
  const TestLayout layout_;
};

TEST_P(ExpertRowsTest, LayoutEqualsReference) {
  const RoutingShape& s = GetParam();
  std::vector<int32_t> row_of_pair(s.t * s.k), pair_of_row(layout_.rows_max), block_expert(layout_.blocks_max);
  const int64_t blocks =
      reference::ExpertLayout(row_of_pair.data(), pair_of_row.data(), block_expert.data(), layout_.experts.data(),
                              s.t * s.k, s.first, s.e, s.block_rows, layout_.blocks_max);
  EXPECT_EQ(layout_.active_blocks, blocks);
  EXPECT_EQ(layout_.row_of_pair, row_of_pair);
  EXPECT_EQ(layout_.pair_of_row, pair_of_row);
  EXPECT_EQ(layout_.block_expert, block_expert);
  AddToOpTable({"expert_layout", ToString(s), 0.0, {}});
}

TEST_P(ExpertRowsTest, DispatchAgreesWithReference) {
  const RoutingShape& s = GetParam();
  TestTensor x(s.t * kH, random_), drows(layout_.rows_max * kH, random_);
  TestTensor rows(layout_.rows_max * kH), dx(s.t * kH), dx_two_threads(s.t * kH);
  PoisonInactive(drows);
  const DispatchArgs args = {.rows = rows,
                             .x = x,
                             .pair_of_row = layout_.pair_of_row.data(),
                             .active_blocks = &layout_.active_blocks,
                             .t = s.t,
                             .h = kH,
                             .k = s.k,
                             .block_rows = s.block_rows,
                             .blocks_max = layout_.blocks_max};
  CpuKernels().dispatch(args, TestContext(2));
  ExpectInactiveUntouched(rows);
  DispatchGradArgs grad = {
      .dx = dx, .drows = drows, .row_of_pair = layout_.row_of_pair.data(), .t = s.t, .h = kH, .k = s.k};
  CpuKernels().dispatch_grad(grad, TestContext(1));

  const int64_t active = layout_.active_rows();
  std::vector<double> want(active * kH), want_dx(s.t * kH), x64 = x.ToDouble();
  const std::vector<double> drows64(drows.data(), drows.data() + active * kH);
  const auto loss = [&] {
    reference::Dispatch(want.data(), x64.data(), layout_.pair_of_row.data(), active, kH, s.k);
    return Dot(want, drows64);
  };
  loss();
  reference::DispatchGrad(want_dx.data(), drows64.data(), layout_.pair_of_row.data(), active, s.t, kH, s.k);
  const double forward_error = ScaledError(rows.data(), want.data(), active * kH);
  const double gradient_error = std::max(ScaledError(dx, want_dx), FiniteDifferenceError(dx.data(), x64, loss));
  EXPECT_EQ(forward_error, 0);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({"dispatch", ToString(s), forward_error, gradient_error});

  grad.dx = dx_two_threads;
  CpuKernels().dispatch_grad(grad, TestContext(2));
  EXPECT_TRUE(dx.SameBits(dx_two_threads));
  grad.accumulate = true;
  CpuKernels().dispatch_grad(grad, TestContext(2));
  for (double& value : want_dx) value *= 2;
  EXPECT_LT(ScaledError(dx_two_threads, want_dx), 1e-6);
}

TEST_P(ExpertRowsTest, CombineAgreesWithReference) {
  const RoutingShape& s = GetParam();
  const int64_t active = layout_.active_rows();
  TestTensor base(s.t * kH, random_), rows(layout_.rows_max * kH, random_), weights(s.t * s.k, random_);
  TestTensor y(s.t * kH), y_two_threads(s.t * kH);
  PoisonInactive(rows);
  CombineArgs args = {.y = y,
                      .base = base,
                      .rows = rows,
                      .weights = weights,
                      .row_of_pair = layout_.row_of_pair.data(),
                      .t = s.t,
                      .h = kH,
                      .k = s.k};
  CpuKernels().combine(args, TestContext(1));
  args.y = y_two_threads;
  CpuKernels().combine(args, TestContext(2));
  EXPECT_TRUE(y.SameBits(y_two_threads));

  TestTensor dy(s.t * kH, random_), drows(layout_.rows_max * kH), dweights(s.t * s.k);
  CpuKernels().combine_grad({.drows = drows,
                             .dweights = dweights,
                             .dy = dy,
                             .rows = rows,
                             .weights = weights,
                             .pair_of_row = layout_.pair_of_row.data(),
                             .active_blocks = &layout_.active_blocks,
                             .t = s.t,
                             .h = kH,
                             .k = s.k,
                             .block_rows = s.block_rows,
                             .blocks_max = layout_.blocks_max},
                            TestContext(2));
  ExpectInactiveUntouched(drows);

  std::vector<double> want(s.t * kH), weights64 = weights.ToDouble(), rows64(rows.data(), rows.data() + active * kH);
  const std::vector<double> base64 = base.ToDouble(), dy64 = dy.ToDouble();
  const auto loss = [&] {
    reference::Combine(want.data(), base64.data(), rows64.data(), weights64.data(), layout_.pair_of_row.data(), active,
                       s.t, kH, s.k);
    return Dot(want, dy64);
  };
  loss();
  const double forward_error = ScaledError(y, want);
  ExpectZeroWithoutRow(dweights);
  const double gradient_error = std::max(FiniteDifferenceError(dweights.data(), weights64, loss),
                                         FiniteDifferenceError(drows.data(), rows64, loss));
  EXPECT_LT(forward_error, 1e-6);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({"combine", ToString(s), forward_error, gradient_error});

  args.base = {};
  EXPECT_TRUE(CpuKernels().combine.can_run(args).ok());
  CpuKernels().combine(args, TestContext(2));
  reference::Combine(want.data(), /*base=*/nullptr, rows64.data(), weights64.data(), layout_.pair_of_row.data(), active,
                     s.t, kH, s.k);
  EXPECT_LT(ScaledError(y_two_threads, want), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Routings, ExpertRowsTest, testing::ValuesIn(RoutingShapes()));

}  // namespace
}  // namespace angel_ptm
