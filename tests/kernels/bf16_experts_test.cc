// The bf16 variants of router, dispatch and combine: probabilities and weights are fp32, rows are rounded once.
#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/router.h"
#include "tests/reference/combine.h"
#include "tests/reference/dispatch.h"
#include "tests/reference/router.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/expert_routing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr double kBf16ExpertsFp32Error = 1e-6;  // of the arithmetic before the rounding, over the largest value

class Bf16ExpertRowsTest : public testing::TestWithParam<std::tuple<RoutingShape, int64_t>> {
 protected:
  Bf16ExpertRowsTest()
      : s_(std::get<0>(GetParam())), h_(std::get<1>(GetParam())), random_(5), layout_(s_, RouteTokens(s_, random_)) {}

  int64_t active() const { return layout_.active_rows(); }
  std::string Name() const { return absl::StrCat(ToString(s_), " H=", h_); }
  // Fills the rows after the active blocks with NaN: no kernel may read them.
  void PoisonInactive(Bf16Tensor& rows) const {
    for (int64_t i = active() * h_; i < rows.size(); ++i) rows.Set(i, kNan);
  }

  const RoutingShape s_;
  const int64_t h_;
  std::mt19937 random_;
  const TestLayout layout_;
};

TEST_P(Bf16ExpertRowsTest, DispatchAgreesWithReference) {
  Bf16Tensor x(s_.t * h_, random_), drows(layout_.rows_max * h_, random_), before(s_.t * h_, random_);
  PoisonInactive(drows);
  std::vector<double> want(active() * h_), want_dx(s_.t * h_), want_sum = before.ToDouble();
  reference::Dispatch(want.data(), x.ToDouble().data(), layout_.pair_of_row.data(), active(), h_, s_.k);
  reference::DispatchGrad(want_dx.data(), drows.ToDouble().data(), layout_.pair_of_row.data(), active(), s_.t, h_,
                          s_.k);
  for (int64_t i = 0; i < s_.t * h_; ++i) want_sum[i] += want_dx[i];
  Bf16Tensor first(s_.t * h_);
  for (const int threads : {1, 2, 3, 4}) {
    Bf16Tensor rows(layout_.rows_max * h_), dx(s_.t * h_), dx_sum(s_.t * h_);
    const DispatchArgs args = {.rows = rows,
                               .x = x,
                               .pair_of_row = layout_.pair_of_row.data(),
                               .active_blocks = &layout_.active_blocks,
                               .t = s_.t,
                               .h = h_,
                               .k = s_.k,
                               .block_rows = s_.block_rows,
                               .blocks_max = layout_.blocks_max};
    RunKernel(CpuKernels().dispatch, args, threads);
    for (int64_t i = 0; i < active() * h_; ++i) ASSERT_EQ(static_cast<double>(rows[i]), want[i]);
    EXPECT_TRUE(rows.AllNan(active() * h_, rows.size()));
    DispatchGradArgs grad = {
        .dx = dx, .drows = drows, .row_of_pair = layout_.row_of_pair.data(), .t = s_.t, .h = h_, .k = s_.k};
    RunKernel(CpuKernels().dispatch_grad, grad, threads);
    EXPECT_LT(ErrorBeyondRounding(dx, want_dx), kBf16ExpertsFp32Error);
    if (threads == 1) first.CopyFrom(dx);
    EXPECT_TRUE(dx.SameBits(first)) << threads;
    dx_sum.CopyFrom(before);
    grad.dx = dx_sum;
    grad.accumulate = true;
    RunKernel(CpuKernels().dispatch_grad, grad, threads);
    EXPECT_LT(ErrorBeyondRounding(dx_sum, want_sum), kBf16ExpertsFp32Error);
    AddToOpTable({"dispatch bf16", Name(), 0.0, ScaledError(dx, want_dx)});
  }
}

TEST_P(Bf16ExpertRowsTest, CombineAgreesWithReference) {
  Bf16Tensor base(s_.t * h_, random_), rows(layout_.rows_max * h_, random_), dy(s_.t * h_, random_);
  TestTensor weights(s_.t * s_.k, random_);
  PoisonInactive(rows);
  const std::vector<double> rows64 = rows.ToDouble(), weights64 = weights.ToDouble(), dy64 = dy.ToDouble();
  std::vector<double> want(s_.t * h_), want_without_base(s_.t * h_);
  std::vector<double> want_drows(active() * h_), want_dweights(s_.t * s_.k);
  reference::Combine(want.data(), base.ToDouble().data(), rows64.data(), weights64.data(), layout_.pair_of_row.data(),
                     active(), s_.t, h_, s_.k);
  reference::Combine(want_without_base.data(), /*base=*/nullptr, rows64.data(), weights64.data(),
                     layout_.pair_of_row.data(), active(), s_.t, h_, s_.k);
  for (int64_t r = 0; r < active(); ++r) {
    const int32_t pair = layout_.pair_of_row[r];
    for (int64_t i = 0; i < h_ && pair >= 0; ++i) {
      want_drows[r * h_ + i] = weights64[pair] * dy64[pair / s_.k * h_ + i];
      want_dweights[pair] += rows64[r * h_ + i] * dy64[pair / s_.k * h_ + i];
    }
  }
  Bf16Tensor first_y(s_.t * h_), first_drows(layout_.rows_max * h_);
  TestTensor first_dweights(s_.t * s_.k);
  for (const int threads : {1, 2, 3, 4}) {
    Bf16Tensor y(s_.t * h_), y_without_base(s_.t * h_), drows(layout_.rows_max * h_);
    TestTensor dweights(s_.t * s_.k);
    const CombineArgs args = {.y = y,
                              .base = base,
                              .rows = rows,
                              .weights = weights,
                              .row_of_pair = layout_.row_of_pair.data(),
                              .t = s_.t,
                              .h = h_,
                              .k = s_.k};
    RunKernel(CpuKernels().combine, args, threads);
    EXPECT_LT(ErrorBeyondRounding(y, want), kBf16ExpertsFp32Error);
    CombineArgs without_base = args;
    without_base.y = y_without_base, without_base.base = {};
    EXPECT_TRUE(CpuKernels().combine.can_run(without_base).ok());
    RunKernel(CpuKernels().combine, without_base, threads);
    EXPECT_LT(ErrorBeyondRounding(y_without_base, want_without_base), kBf16ExpertsFp32Error);
    const CombineGradArgs grad = {.drows = drows,
                                  .dweights = dweights,
                                  .dy = dy,
                                  .rows = rows,
                                  .weights = weights,
                                  .pair_of_row = layout_.pair_of_row.data(),
                                  .active_blocks = &layout_.active_blocks,
                                  .t = s_.t,
                                  .h = h_,
                                  .k = s_.k,
                                  .block_rows = s_.block_rows,
                                  .blocks_max = layout_.blocks_max};
    RunKernel(CpuKernels().combine_grad, grad, threads);
    EXPECT_LT(ErrorBeyondRounding(drows.data(), want_drows.data(), active() * h_), kBf16ExpertsFp32Error);
    EXPECT_TRUE(drows.AllNan(active() * h_, drows.size()));
    EXPECT_LT(ScaledError(dweights, want_dweights), 2e-6);
    if (threads == 1) {
      first_y.CopyFrom(y);
      first_drows.CopyFrom(drows);
      first_dweights.CopyFrom(dweights);
    }
    EXPECT_TRUE(y.SameBits(first_y) && drows.SameBits(first_drows) && dweights.SameBits(first_dweights)) << threads;
    AddToOpTable({"combine bf16", Name(), ScaledError(y, want),
                  ScaledError(drows.ToDouble().data(), want_drows.data(), active() * h_)});
  }
}

INSTANTIATE_TEST_SUITE_P(Routings, Bf16ExpertRowsTest,
                         testing::Combine(testing::ValuesIn(RoutingShapes()), testing::Values(1, 19, 300)));

struct Bf16RouterShape {
  int64_t t, h, e, k;
};

// Everything that the op and its gradient write.
struct Bf16Routed {
  explicit Bf16Routed(const Bf16RouterShape& s)
      : shape(s),
        weights(s.t * s.k),
        probs(s.t * s.e),
        dgate32(s.e * s.h),
        dx(s.t * s.h),
        dgate(s.e * s.h),
        experts(s.t * s.k),
        counts(s.e) {}
  void Run(const Bf16Tensor& x, const Bf16Tensor& gate, int threads) {
    const RouterArgs args = {.weights = weights,
                             .probs = probs,
                             .experts = experts.data(),
                             .counts = counts.data(),
                             .x = x,
                             .gate = gate,
                             .t = shape.t,
                             .h = shape.h,
                             .e = shape.e,
                             .k = shape.k};
    EXPECT_TRUE(CpuKernels().router.can_run(args).ok());
    RunKernel(CpuKernels().router, args, threads);
  }
  void RunGrad(const Bf16Tensor& x, const Bf16Tensor& gate, const TestTensor& dweights, Operand to_x, Operand to_gate,
               int threads, bool accumulate = false) {
    const RouterGradArgs args = {.dx = to_x,
                                 .dgate = to_gate,
                                 .dweights = dweights,
                                 .weights = weights,
                                 .probs = probs,
                                 .x = x,
                                 .gate = gate,
                                 .experts = experts.data(),
                                 .counts = counts.data(),
                                 .target_count = &kTargetCount,
                                 .aux_coefficient = kCoefficient,
                                 .t = shape.t,
                                 .h = shape.h,
                                 .e = shape.e,
                                 .k = shape.k,
                                 .accumulate_dx = accumulate,
                                 .accumulate_dgate = accumulate};
    EXPECT_TRUE(CpuKernels().router_grad.can_run(args).ok());
    RunKernel(CpuKernels().router_grad, args, threads);
  }
  bool SameBits(const Bf16Routed& o) const {
    return weights.SameBits(o.weights) && probs.SameBits(o.probs) && dx.SameBits(o.dx) && dgate.SameBits(o.dgate) &&
           dgate32.SameBits(o.dgate32) && experts == o.experts && counts == o.counts;
  }

  static constexpr float kTargetCount = 17, kCoefficient = 0.3f;
  Bf16RouterShape shape;
  TestTensor weights, probs, dgate32;
  Bf16Tensor dx, dgate;
  std::vector<int32_t> experts, counts;
};

// The gradients use the reference's probabilities.
struct Bf16RouterReference {
  Bf16RouterReference(const Bf16RouterShape& s, const std::vector<double>& x, const std::vector<double>& gate,
                      const std::vector<double>& dweights)
      : weights(s.t * s.k), probs(s.t * s.e), dx(s.t * s.h), dgate(s.e * s.h), experts(s.t * s.k), counts(s.e) {
    reference::Router(weights.data(), probs.data(), experts.data(), counts.data(), x.data(), gate.data(), s.t, s.h, s.e,
                      s.k);
    reference::RouterGrad(
        dx.data(), dgate.data(), dweights.data(), weights.data(), probs.data(), experts.data(), counts.data(), x.data(),
        gate.data(), s.t, s.h, s.e, s.k,
        static_cast<double>(Bf16Routed::kCoefficient) * static_cast<double>(Bf16Routed::kTargetCount));
  }
  std::vector<double> weights, probs, dx, dgate;
  std::vector<int32_t> experts, counts;
};

class Bf16RouterTest : public testing::TestWithParam<Bf16RouterShape> {};

TEST_P(Bf16RouterTest, AgreesWithReference) {
  const Bf16RouterShape s = GetParam();
  std::mt19937 random(1);
  const Bf16Tensor x(s.t * s.h, random), gate(s.e * s.h, random, 0.3f), before_x(s.t * s.h, random),
      before_gate(s.e * s.h, random);
  const TestTensor dweights(s.t * s.k, random);
  const auto run = [&](Bf16Routed& routed, int threads) {
    routed.Run(x, gate, threads);
    routed.RunGrad(x, gate, dweights, routed.dx, routed.dgate, threads);
    routed.RunGrad(x, gate, dweights, {}, routed.dgate32, threads);
  };
  Bf16Routed got(s);
  run(got, 1);
  for (const int threads : {2, 3, 4}) {
    Bf16Routed threaded(s);
    run(threaded, threads);
    EXPECT_TRUE(got.SameBits(threaded)) << threads;
  }
  const Bf16RouterReference want(s, x.ToDouble(), gate.ToDouble(), dweights.ToDouble());
  EXPECT_EQ(got.experts, want.experts);
  EXPECT_EQ(got.counts, want.counts);
  const double forward_error = std::max(ScaledError(got.weights, want.weights), ScaledError(got.probs, want.probs));
  EXPECT_LT(forward_error, 2e-6);
  EXPECT_LT(ErrorBeyondRounding(got.dx, want.dx), 1e-5);
  EXPECT_LT(ErrorBeyondRounding(got.dgate, want.dgate), 1e-5);
  EXPECT_LT(ScaledError(got.dgate32, want.dgate), 1e-5);
  AddToOpTable({"router bf16", absl::StrCat("T=", s.t, " H=", s.h, " E=", s.e, " K=", s.k), forward_error,
                std::max(ScaledError(got.dx, want.dx), ScaledError(got.dgate, want.dgate))});

  Bf16Tensor dx_sum(s.t * s.h), dgate_sum(s.e * s.h);
  dx_sum.CopyFrom(before_x);
  dgate_sum.CopyFrom(before_gate);
  got.RunGrad(x, gate, dweights, dx_sum, dgate_sum, 2, /*accumulate=*/true);
  std::vector<double> want_dx = before_x.ToDouble(), want_dgate = before_gate.ToDouble();
  for (size_t i = 0; i < want_dx.size(); ++i) want_dx[i] += want.dx[i];
  for (size_t i = 0; i < want_dgate.size(); ++i) want_dgate[i] += want.dgate[i];
  EXPECT_LT(ErrorBeyondRounding(dx_sum, want_dx), 1e-5);
  EXPECT_LT(ErrorBeyondRounding(dgate_sum, want_dgate), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16RouterTest,
                         testing::Values(Bf16RouterShape{1, 8, 3, 2}, Bf16RouterShape{3, 16, 24, 2},
                                         Bf16RouterShape{65, 24, 16, 8}, Bf16RouterShape{65, 20, 3, 3},
                                         Bf16RouterShape{200, 300, 24, 1}));

TEST(Bf16RouterTest, NonFiniteInputStaysWithItsToken) {
  const Bf16RouterShape s = {70, 40, 5, 2};
  std::mt19937 random(4);
  Bf16Tensor x(s.t * s.h, random), gate(s.e * s.h, random);
  const TestTensor dweights(s.t * s.k, random);
  x.Set(66 * s.h + 3, kNan);
  Bf16Routed got(s);
  got.Run(x, gate, 2);
  got.RunGrad(x, gate, dweights, got.dx, got.dgate, 2);
  for (int64_t t = 0; t < s.t; ++t) {
    const int32_t first = got.experts[t * 2], second = got.experts[t * 2 + 1];
    EXPECT_TRUE(first >= 0 && first < s.e && second >= 0 && second < s.e && first != second);
    EXPECT_EQ(std::isnan(got.weights[t * s.k]), t == 66);
    const int64_t begin = t * s.h, end = begin + s.h;
    EXPECT_TRUE(t == 66 ? got.dx.AllNan(begin, end) : got.dx.NoneNan(begin, end));
  }
  EXPECT_TRUE(got.dgate.AllNan(0, s.e * s.h));
}

}  // namespace
}  // namespace angel_ptm
