#include <gtest/gtest.h>

#include <utility>

#include "kernels/ops/grouped_matmul.h"
#include "tests/reference/grouped_matmul.h"
#include "tests/support/bf16_sums.h"
#include "tests/support/expert_routing.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBf16GroupedMatmulN = 40, kBf16GroupedMatmulK = 25;  // not multiples of any register tile

GroupedMatmulArgs Bf16ForwardArgs(Operand y, const Bf16Tensor& x, const Bf16Tensor& w, const TestLayout& layout,
                                  bool trans_b = true) {
  return {.c = y,
          .a = x,
          .b = w,
          .block_expert = layout.block_expert.data(),
          .active_blocks = &layout.active_blocks,
          .n = kBf16GroupedMatmulN,
          .k = kBf16GroupedMatmulK,
          .e = layout.shape.e,
          .block_rows = layout.shape.block_rows,
          .blocks_max = layout.blocks_max,
          .trans_b = trans_b};
}

GroupedMatmulGradWeightArgs GradArgs(Operand dw, const Bf16Tensor& dy, const Bf16Tensor& x, const TestLayout& layout) {
  return {.dw = dw,
          .dy = dy,
          .x = x,
          .block_expert = layout.block_expert.data(),
          .active_blocks = &layout.active_blocks,
          .n = kBf16GroupedMatmulN,
          .k = kBf16GroupedMatmulK,
          .e = layout.shape.e,
          .block_rows = layout.shape.block_rows,
          .blocks_max = layout.blocks_max};
}

// The values of `tokens` in a layout's rows: zero where padded, NaN after the active blocks.
void FillBf16Rows(Bf16Tensor& rows, const Bf16Tensor& tokens, int64_t width, const TestLayout& layout) {
  for (int64_t r = 0; r < layout.active_rows(); ++r) {
    const int64_t pair = layout.pair_of_row[r];
    for (int64_t i = 0; i < width; ++i) {
      rows.data()[r * width + i] = pair < 0 ? BFloat16{0} : tokens.data()[pair / layout.shape.k * width + i];
    }
  }
}

struct Operands {
  Operands(const RoutingShape& s, std::mt19937& random)
      : layout(s, RouteTokens(s, random)),
        x(layout.rows_max * kBf16GroupedMatmulK),
        dy(layout.rows_max * kBf16GroupedMatmulN),
        w(s.e * kBf16GroupedMatmulN * kBf16GroupedMatmulK, random) {
    FillBf16Rows(x, Bf16Tensor(s.t * kBf16GroupedMatmulK, random), kBf16GroupedMatmulK, layout);
    FillBf16Rows(dy, Bf16Tensor(s.t * kBf16GroupedMatmulN, random), kBf16GroupedMatmulN, layout);
  }
  // The active rows in fp64.
  std::vector<double> Active(const Bf16Tensor& rows, int64_t width) const {
    std::vector<double> values = rows.ToDouble();
    values.resize(layout.active_rows() * width);
    return values;
  }
  TestLayout layout;
  Bf16Tensor x, dy, w;
};

class Bf16GroupedMatmulTest : public testing::TestWithParam<RoutingShape> {};

TEST_P(Bf16GroupedMatmulTest, AgreesWithReference) {
  const RoutingShape& s = GetParam();
  std::mt19937 random(6);
  const Operands o(s, random);
  const TestLayout& layout = o.layout;
  const auto& forward = CpuKernels().grouped_matmul;
  TestTensor y(layout.rows_max * kBf16GroupedMatmulN);
  Bf16Tensor rounded(y.size()), dx(layout.rows_max * kBf16GroupedMatmulK);
  RunKernel(forward, Bf16ForwardArgs(y, o.x, o.w, layout), 1);
  RunKernel(forward, Bf16ForwardArgs(rounded, o.x, o.w, layout), 2);
  GroupedMatmulArgs dx_args = Bf16ForwardArgs(dx, o.dy, o.w, layout, /*trans_b=*/false);
  std::swap(dx_args.n, dx_args.k);
  RunKernel(forward, dx_args, 3);

  const auto reference = [&](const std::vector<double>& rows, const std::vector<double>& w, int64_t n, int64_t k,
                             bool trans_b) {
    std::vector<double> want(layout.active_rows() * n);
    reference::GroupedMatmul(want.data(), rows.data(), w.data(), layout.block_expert.data(), layout.active_blocks,
                             s.block_rows, n, k, trans_b);
    return want;
  };
  const std::vector<double> x = o.Active(o.x, kBf16GroupedMatmulK), dy = o.Active(o.dy, kBf16GroupedMatmulN),
                            w = o.w.ToDouble();
  EXPECT_LT(ErrorShare(y, reference(x, w, kBf16GroupedMatmulN, kBf16GroupedMatmulK, true),
                       reference(Magnitudes(x), Magnitudes(w), kBf16GroupedMatmulN, kBf16GroupedMatmulK, true), 0),
            1);
  EXPECT_LT(ErrorShare(dx, reference(dy, w, kBf16GroupedMatmulK, kBf16GroupedMatmulN, false),
                       reference(Magnitudes(dy), Magnitudes(w), kBf16GroupedMatmulK, kBf16GroupedMatmulN, false),
                       kBf16Rounding),
            1);
  for (int64_t i = 0; i < y.size(); ++i) {
    if (i >= layout.active_rows() * kBf16GroupedMatmulN) {
      EXPECT_TRUE(std::isnan(y[i]) && std::isnan(rounded[i])) << "written behind the active blocks: " << i;
    } else {
      EXPECT_EQ(rounded.data()[i].bits, ToBFloat16(y[i]).bits);
    }
  }
}

TEST_P(Bf16GroupedMatmulTest, WeightGradientsAgreeWithReference) {
  const RoutingShape& s = GetParam();
  std::mt19937 random(7);
  const Operands o(s, random);
  const TestLayout& layout = o.layout;
  const Bf16Tensor before(s.e * kBf16GroupedMatmulN * kBf16GroupedMatmulK, random);
  TestTensor dw(before.size()), added(before.size());
  Bf16Tensor rounded(before.size()), rounded_added(before.size());
  for (int64_t i = 0; i < before.size(); ++i) added[i] = before[i];
  rounded_added.CopyFrom(before);
  const auto run = [&](Operand to, bool accumulate, int threads) {
    GroupedMatmulGradWeightArgs args = GradArgs(to, o.dy, o.x, layout);
    args.accumulate = accumulate;
    RunKernel(CpuKernels().grouped_matmul_grad_weight, args, threads);
  };
  run(dw, false, 1);
  run(rounded, false, 2);
  run(added, true, 3);
  run(rounded_added, true, 4);

  const std::vector<double> x = o.Active(o.x, kBf16GroupedMatmulK), dy = o.Active(o.dy, kBf16GroupedMatmulN);
  std::vector<double> want(dw.size()), magnitude(dw.size());
  const auto reference = [&](std::vector<double>& to, const std::vector<double>& dy64, const std::vector<double>& x64) {
    reference::GroupedMatmulGradWeight(to.data(), dy64.data(), x64.data(), layout.block_expert.data(),
                                       layout.active_blocks, s.block_rows, kBf16GroupedMatmulN, kBf16GroupedMatmulK,
                                       s.e);
  };
  reference(want, dy, x);
  reference(magnitude, Magnitudes(dy), Magnitudes(x));
  EXPECT_LT(ErrorShare(dw, want, magnitude, 0), 1);  // experts without rows: magnitude 0, so 0
  for (int64_t i = 0; i < dw.size(); ++i) {
    ASSERT_EQ(rounded.data()[i].bits, ToBFloat16(dw[i]).bits) << i;
    ASSERT_EQ(added[i], before[i] + dw[i]) << i;
    ASSERT_EQ(rounded_added.data()[i].bits, ToBFloat16(before[i] + dw[i]).bits) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Routings, Bf16GroupedMatmulTest, testing::ValuesIn(RoutingShapes()));

// The result of a (token, choice) pair depends only on its token and expert, not on where the others are routed, the
// block size, or the number of threads.
TEST(Bf16GroupedMatmulTest, BitsOfAPairDoNotDependOnOtherTokens) {
  RoutingShape s = {65, 5, 2, 1};
  std::mt19937 random(8);
  const Bf16Tensor tokens(s.t * kBf16GroupedMatmulK, random),
      w(s.e * kBf16GroupedMatmulN * kBf16GroupedMatmulK, random);
  const std::vector<int32_t> routed = RouteTokens(s, random);
  std::vector<std::vector<BFloat16>> first;
  for (const int64_t block_rows : {1, 7, 16, 64}) {
    for (int64_t kept = 0; kept < s.t; kept += 16) {
      s.block_rows = block_rows;
      std::vector<int32_t> moved = RouteTokens(s, random);
      std::copy_n(routed.begin() + kept * s.k, s.k, moved.begin() + kept * s.k);
      const TestLayout layout(s, moved);
      Bf16Tensor x(layout.rows_max * kBf16GroupedMatmulK), y(layout.rows_max * kBf16GroupedMatmulN);
      FillBf16Rows(x, tokens, kBf16GroupedMatmulK, layout);
      RunKernel(CpuKernels().grouped_matmul, Bf16ForwardArgs(y, x, w, layout), static_cast<int>(1 + kept / 16 % 4));
      const BFloat16* const row = y.data() + layout.row_of_pair[kept * s.k] * kBf16GroupedMatmulN;
      const size_t token = static_cast<size_t>(kept / 16);
      if (block_rows == 1) first.emplace_back(row, row + kBf16GroupedMatmulN);
      EXPECT_EQ(std::memcmp(first[token].data(), row, kBf16GroupedMatmulN * sizeof(BFloat16)), 0)
          << block_rows << " " << kept;
    }
  }
}

}  // namespace
}  // namespace angel_ptm
