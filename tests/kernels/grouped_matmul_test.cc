#include "tests/reference/grouped_matmul.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/grouped_matmul.h"
#include "tests/support/expert_routing.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGroupedMatmulN = 40, kGroupedMatmulK = 24;  // not multiples of any register tile

GroupedMatmulArgs ForwardArgs(TestTensor& y, TestTensor& x, TestTensor& w, const TestLayout& layout, bool trans_b) {
  return {.c = y,
          .a = x,
          .b = w,
          .block_expert = layout.block_expert.data(),
          .active_blocks = &layout.active_blocks,
          .n = kGroupedMatmulN,
          .k = kGroupedMatmulK,
          .e = layout.shape.e,
          .block_rows = layout.shape.block_rows,
          .blocks_max = layout.blocks_max,
          .trans_b = trans_b};
}

// Expert rows as dispatch leaves them: zero where padded, NaN after the active blocks.
void FillRows(TestTensor& rows, int64_t width, const TestLayout& layout, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (int64_t r = 0; r < layout.active_rows(); ++r) {
    for (int64_t i = 0; i < width; ++i) rows[r * width + i] = layout.pair_of_row[r] < 0 ? 0.0f : normal(random);
  }
}

// The gradients of experts without rows have the bits of those in `want`.
void ExpectUnusedExpertsHold(const TestTensor& dw, const TestTensor& want, const TestLayout& layout) {
  const auto used_end = layout.block_expert.begin() + layout.active_blocks;
  for (int64_t e = 0; e < layout.shape.e; ++e) {
    if (std::find(layout.block_expert.begin(), used_end, static_cast<int32_t>(e)) != used_end) continue;
    const int64_t at = e * kGroupedMatmulN * kGroupedMatmulK;
    EXPECT_EQ(std::memcmp(dw.data() + at, want.data() + at, kGroupedMatmulN * kGroupedMatmulK * sizeof(float)), 0)
        << "expert " << e;
  }
}

class GroupedMatmulTest : public testing::TestWithParam<RoutingShape> {};

TEST_P(GroupedMatmulTest, AgreesWithReference) {
  const RoutingShape& s = GetParam();
  std::mt19937 random(6);
  const TestLayout layout(s, RouteTokens(s, random));
  const int64_t active = layout.active_rows();
  TestTensor x(layout.rows_max * kGroupedMatmulK), dy(layout.rows_max * kGroupedMatmulN),
      w(s.e * kGroupedMatmulN * kGroupedMatmulK, random);
  TestTensor y(layout.rows_max * kGroupedMatmulN), y_two_threads(layout.rows_max * kGroupedMatmulN),
      dx(layout.rows_max * kGroupedMatmulK);
  FillRows(x, kGroupedMatmulK, layout, random);
  FillRows(dy, kGroupedMatmulN, layout, random);
  CpuKernels().grouped_matmul(ForwardArgs(y, x, w, layout, true), TestContext(1));
  CpuKernels().grouped_matmul(ForwardArgs(y_two_threads, x, w, layout, true), TestContext(2));
  EXPECT_TRUE(y.SameBits(y_two_threads));
  for (int64_t i = active * kGroupedMatmulN; i < y.size(); ++i) EXPECT_TRUE(std::isnan(y[i]));
  GroupedMatmulArgs dx_args = ForwardArgs(dx, dy, w, layout, false);
  dx_args.n = kGroupedMatmulK;
  dx_args.k = kGroupedMatmulN;
  CpuKernels().grouped_matmul(dx_args, TestContext(2));

  std::vector<double> want(active * kGroupedMatmulN), w64 = w.ToDouble(),
                                                      x64(x.data(), x.data() + active * kGroupedMatmulK);
  const std::vector<double> dy64(dy.data(), dy.data() + active * kGroupedMatmulN);
  const auto loss = [&] {
    reference::GroupedMatmul(want.data(), x64.data(), w64.data(), layout.block_expert.data(), layout.active_blocks,
                             s.block_rows, kGroupedMatmulN, kGroupedMatmulK, true);
    return Dot(want, dy64);
  };
  loss();
  const double forward_error = ScaledError(y.data(), want.data(), active * kGroupedMatmulN);
  EXPECT_LT(forward_error, 2e-6);

  TestTensor dw(s.e * kGroupedMatmulN * kGroupedMatmulK), dw_two_threads(s.e * kGroupedMatmulN * kGroupedMatmulK);
  GroupedMatmulGradWeightArgs dw_args = {.dw = dw,
                                         .dy = dy,
                                         .x = x,
                                         .block_expert = layout.block_expert.data(),
                                         .active_blocks = &layout.active_blocks,
                                         .n = kGroupedMatmulN,
                                         .k = kGroupedMatmulK,
                                         .e = s.e,
                                         .block_rows = s.block_rows,
                                         .blocks_max = layout.blocks_max};
  CpuKernels().grouped_matmul_grad_weight(dw_args, TestContext(1));
  dw_args.dw = dw_two_threads;
  CpuKernels().grouped_matmul_grad_weight(dw_args, TestContext(2));
  EXPECT_TRUE(dw.SameBits(dw_two_threads));
  TestTensor zero(s.e * kGroupedMatmulN * kGroupedMatmulK);
  zero.Fill(0);
  ExpectUnusedExpertsHold(dw, zero, layout);
  std::vector<double> want_dw(s.e * kGroupedMatmulN * kGroupedMatmulK);
  reference::GroupedMatmulGradWeight(want_dw.data(), dy64.data(), x64.data(), layout.block_expert.data(),
                                     layout.active_blocks, s.block_rows, kGroupedMatmulN, kGroupedMatmulK, s.e);
  const double gradient_error = std::max({ScaledError(dw, want_dw), FiniteDifferenceError(dw.data(), w64, loss, 100),
                                          FiniteDifferenceError(dx.data(), x64, loss, 100)});
  EXPECT_LT(gradient_error, 2e-6);
  AddToOpTable({"grouped_matmul", absl::StrCat(ToString(s), " N=", kGroupedMatmulN, " K=", kGroupedMatmulK),
                forward_error, gradient_error});

  const TestTensor before(s.e * kGroupedMatmulN * kGroupedMatmulK, random);
  dw_two_threads.CopyFrom(before);
  dw_args.accumulate = true;
  CpuKernels().grouped_matmul_grad_weight(dw_args, TestContext(2));
  for (int64_t i = 0; i < before.size(); ++i) want_dw[i] += static_cast<double>(before[i]);
  EXPECT_LT(ScaledError(dw_two_threads, want_dw), 2e-6);
  ExpectUnusedExpertsHold(dw_two_threads, before, layout);
}

INSTANTIATE_TEST_SUITE_P(Routings, GroupedMatmulTest, testing::ValuesIn(RoutingShapes()));

// The result of a (token, choice) pair depends only on its token and expert, not on how others are routed or on its
// place within a block.
TEST(GroupedMatmulTest, BitsOfAPairDoNotDependOnOtherTokens) {
  const RoutingShape s = {65, 7, 2, 16};
  std::mt19937 random(7);
  TestTensor tokens(s.t * kGroupedMatmulK, random), w(s.e * kGroupedMatmulN * kGroupedMatmulK, random);
  const auto run = [&](const TestLayout& layout, TestTensor& y) {
    TestTensor x(layout.rows_max * kGroupedMatmulK);
    CpuKernels().dispatch({.rows = x,
                           .x = tokens,
                           .pair_of_row = layout.pair_of_row.data(),
                           .active_blocks = &layout.active_blocks,
                           .t = s.t,
                           .h = kGroupedMatmulK,
                           .k = s.k,
                           .block_rows = s.block_rows,
                           .blocks_max = layout.blocks_max},
                          TestContext(1));
    CpuKernels().grouped_matmul(ForwardArgs(y, x, w, layout, true), TestContext(1));
  };
  const std::vector<int32_t> routed = RouteTokens(s, random);
  const TestLayout before(s, routed);
  TestTensor y_before(before.rows_max * kGroupedMatmulN);
  run(before, y_before);
  for (int trial = 0; trial < 20; ++trial) {
    // Token `kept` keeps its experts and all others move; in odd trials all others go to one expert.
    RoutingShape moved_shape = s;
    if (trial % 2 == 1) moved_shape.spread = Spread::kFirstExpertsOnly;
    std::vector<int32_t> moved = RouteTokens(moved_shape, random);
    const int64_t kept = trial * 3;
    std::copy_n(routed.begin() + kept * s.k, s.k, moved.begin() + kept * s.k);
    const TestLayout after(s, moved);
    TestTensor y_after(after.rows_max * kGroupedMatmulN);
    run(after, y_after);
    for (int64_t pair = kept * s.k; pair < (kept + 1) * s.k; ++pair) {
      EXPECT_EQ(
          std::memcmp(y_before.data() + before.row_of_pair[pair] * kGroupedMatmulN,
                      y_after.data() + after.row_of_pair[pair] * kGroupedMatmulN, kGroupedMatmulN * sizeof(float)),
          0);
    }
  }
}

// Nor does it depend on the block size or the number of threads.
TEST(GroupedMatmulTest, BitsOfAPairDoNotDependOnBlockSize) {
  RoutingShape s = {65, 5, 2, 1};
  std::mt19937 random(8);
  TestTensor tokens(s.t * kGroupedMatmulK, random), w(s.e * kGroupedMatmulN * kGroupedMatmulK, random);
  const std::vector<int32_t> routed = RouteTokens(s, random);
  std::vector<float> first;
  for (const int64_t block_rows : {1, 7, 16, 64}) {
    s.block_rows = block_rows;
    const TestLayout layout(s, routed);
    TestTensor x(layout.rows_max * kGroupedMatmulK), y(layout.rows_max * kGroupedMatmulN);
    for (int64_t row = 0; row < layout.active_rows(); ++row) {
      const int32_t pair = layout.pair_of_row[row];
      for (int64_t i = 0; i < kGroupedMatmulK; ++i)
        x[row * kGroupedMatmulK + i] = pair < 0 ? 0.0f : tokens[pair / s.k * kGroupedMatmulK + i];
    }
    CpuKernels().grouped_matmul(ForwardArgs(y, x, w, layout, true), TestContext(block_rows == 7 ? 3 : 1));
    std::vector<float> by_pair;
    for (const int32_t row : layout.row_of_pair)
      by_pair.insert(by_pair.end(), &y[row * kGroupedMatmulN], &y[row * kGroupedMatmulN] + kGroupedMatmulN);
    if (first.empty()) first = by_pair;
    EXPECT_EQ(std::memcmp(first.data(), by_pair.data(), first.size() * sizeof(float)), 0) << block_rows;
  }
}

}  // namespace
}  // namespace angel_ptm
