// Experts in parts, as in expert parallelism: the parts together give what all experts give.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/grouped_matmul.h"
#include "tests/reference/combine.h"
#include "tests/reference/dispatch.h"
#include "tests/reference/expert_layout.h"
#include "tests/reference/grouped_matmul.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/expert_routing.h"

namespace angel_ptm {
namespace {

constexpr int64_t kPartsIn = 16, kPartsOut = 8;  // columns of x and of y

void AddTo(std::vector<double>& sum, const std::vector<double>& part) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
}

// y = sum over choices of weight * w[expert] x, and the gradients of dot(y, dy).
template <typename Tensor>
struct ExpertParts {
  explicit ExpertParts(const RoutingShape& s)
      : whole(s),
        random(31),
        experts(RouteTokens(s, random)),
        x(s.t * kPartsIn, random),
        w(s.e * kPartsOut * kPartsIn, random, 0.3f),
        dy(s.t * kPartsOut, random),
        weights(s.t * s.k, random),
        dx(x.size()),
        dw(w.size()),
        y(dy.size()),
        dweights(weights.size()) {}

  // Does everything that experts [first, first + e) do, on top of what earlier experts did.
  void Run(int64_t first, int64_t e) {
    const TestLayout layout({whole.t, e, whole.k, whole.block_rows, whole.spread, first, whole.e}, experts);
    Tensor rows(layout.rows_max * kPartsIn), out(layout.rows_max * kPartsOut), part_y(dy.size());
    RunKernel(CpuKernels().dispatch,
              {.rows = rows,
               .x = x,
               .pair_of_row = layout.pair_of_row.data(),
               .active_blocks = &layout.active_blocks,
               .t = whole.t,
               .h = kPartsIn,
               .k = whole.k,
               .block_rows = whole.block_rows,
               .blocks_max = layout.blocks_max},
              2);
    Product(layout, out, rows, kPartsOut, kPartsIn, /*trans_b=*/true);
    RunKernel(CpuKernels().combine,
              {.y = part_y,
               .rows = out,
               .weights = weights,
               .row_of_pair = layout.row_of_pair.data(),
               .t = whole.t,
               .h = kPartsOut,
               .k = whole.k},
              2);
    AddTo(y, part_y.ToDouble());
    RunGradients(layout, rows, out);
  }

  void RunGradients(const TestLayout& layout, const Tensor& rows, const Tensor& out) {
    Tensor dout(out.size()), drows(rows.size());
    TestTensor part_dweights(weights.size());
    RunKernel(CpuKernels().combine_grad,
              {.drows = dout,
               .dweights = part_dweights,
               .dy = dy,
               .rows = out,
               .weights = weights,
               .pair_of_row = layout.pair_of_row.data(),
               .active_blocks = &layout.active_blocks,
               .t = whole.t,
               .h = kPartsOut,
               .k = whole.k,
               .block_rows = whole.block_rows,
               .blocks_max = layout.blocks_max},
              2);
    AddTo(dweights, part_dweights.ToDouble());
    RunKernel(CpuKernels().grouped_matmul_grad_weight,
              {.dw = {dw.data() + FirstWeight(layout), ConstOperand(w).dtype},
               .dy = dout,
               .x = rows,
               .block_expert = layout.block_expert.data(),
               .active_blocks = &layout.active_blocks,
               .n = kPartsOut,
               .k = kPartsIn,
               .e = layout.shape.e,
               .block_rows = whole.block_rows,
               .blocks_max = layout.blocks_max},
              2);
    Product(layout, drows, dout, kPartsIn, kPartsOut, /*trans_b=*/false);
    RunKernel(CpuKernels().dispatch_grad,
              {.dx = dx,
               .drows = drows,
               .row_of_pair = layout.row_of_pair.data(),
               .t = whole.t,
               .h = kPartsIn,
               .k = whole.k,
               .accumulate = layout.shape.first != 0},
              2);
  }

  static int64_t FirstWeight(const TestLayout& layout) { return layout.shape.first * kPartsOut * kPartsIn; }
  void Product(const TestLayout& layout, Operand c, ConstOperand a, int64_t n, int64_t k, bool trans_b) {
    RunKernel(CpuKernels().grouped_matmul,
              {.c = c,
               .a = a,
               .b = {w.data() + FirstWeight(layout), ConstOperand(w).dtype},
               .block_expert = layout.block_expert.data(),
               .active_blocks = &layout.active_blocks,
               .n = n,
               .k = k,
               .e = layout.shape.e,
               .block_rows = whole.block_rows,
               .blocks_max = layout.blocks_max,
               .trans_b = trans_b},
              2);
  }

  // Compares with all experts at once in fp64.
  void ExpectTheWhole(double tolerance) const {
    const RoutingShape& s = whole;
    const int64_t blocks_max = ExpertBlocksMax(s.t, s.k, s.e, s.block_rows), rows_max = blocks_max * s.block_rows;
    std::vector<int32_t> row_of_pair(s.t * s.k), pair_of_row(rows_max), block_expert(blocks_max);
    const int64_t blocks =
        reference::ExpertLayout(row_of_pair.data(), pair_of_row.data(), block_expert.data(), experts.data(), s.t * s.k,
                                /*first=*/0, s.e, s.block_rows, blocks_max);
    const int64_t active = blocks * s.block_rows;
    std::vector<double> x64 = x.ToDouble(), w64 = w.ToDouble(), weights64 = weights.ToDouble(), dy64 = dy.ToDouble();
    std::vector<double> rows(active * kPartsIn), out(active * kPartsOut), want(dy64.size());
    const auto loss = [&] {
      reference::Dispatch(rows.data(), x64.data(), pair_of_row.data(), active, kPartsIn, s.k);
      reference::GroupedMatmul(out.data(), rows.data(), w64.data(), block_expert.data(), blocks, s.block_rows,
                               kPartsOut, kPartsIn, true);
      reference::Combine(want.data(), /*base=*/nullptr, out.data(), weights64.data(), pair_of_row.data(), active, s.t,
                         kPartsOut, s.k);
      return Dot(want, dy64);
    };
    loss();
    EXPECT_LT(ScaledError(y, want), tolerance);
    const auto error = [&](const std::vector<double>& gradient, std::vector<double>& of) {
      return FiniteDifferenceError(std::vector<float>(gradient.begin(), gradient.end()).data(), of, loss);
    };
    EXPECT_LT(error(dx.ToDouble(), x64), tolerance);
    EXPECT_LT(error(dw.ToDouble(), w64), tolerance);
    EXPECT_LT(error(dweights, weights64), tolerance);
  }

  RoutingShape whole;
  std::mt19937 random;
  std::vector<int32_t> experts;
  Tensor x, w, dy;
  TestTensor weights;
  Tensor dx, dw;                    // written by the parts
  std::vector<double> y, dweights;  // sums over them
};

struct PartsCase {
  RoutingShape whole;
  std::vector<int64_t> parts;  // how many experts each has
};

class ExpertPartsTest : public testing::TestWithParam<PartsCase> {
 protected:
  template <typename Tensor>
  static void Test(double tolerance) {
    ExpertParts<Tensor> parts(GetParam().whole);
    int64_t first = 0;
    for (const int64_t e : GetParam().parts) {
      parts.Run(first, e);
      first += e;
    }
    ASSERT_EQ(first, GetParam().whole.e);
    parts.ExpectTheWhole(tolerance);
  }
};

TEST_P(ExpertPartsTest, MakeTheWholeInFp32) { Test<TestTensor>(3e-6); }
// Every part's results are rounded, by 2^-9 each, before they are added.
TEST_P(ExpertPartsTest, MakeTheWholeInBf16) { Test<Bf16Tensor>(1.5e-2); }

// Equal and unequal parts; parts of one expert, fewer than a token chooses; all tokens in the first part, in the last,
// or in one part with all experts.
INSTANTIATE_TEST_SUITE_P(Routings, ExpertPartsTest,
                         testing::Values(PartsCase{{65, 6, 2, 16}, {2, 2, 2}}, PartsCase{{65, 6, 2, 16}, {1, 3, 2}},
                                         PartsCase{{33, 4, 3, 8}, {1, 1, 1, 1}}, PartsCase{{1, 4, 1, 4}, {2, 2}},
                                         PartsCase{{65, 6, 2, 16, Spread::kFirstExpertsOnly}, {3, 3}},
                                         PartsCase{{65, 6, 2, 16, Spread::kHalfOfExperts}, {3, 3}},
                                         PartsCase{{65, 6, 2, 16}, {6}}));

}  // namespace
}  // namespace angel_ptm
