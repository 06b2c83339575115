// Concat and Split in fp32 and bf16 copy without rounding.
#include "kernels/ops/concat.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/split.h"
#include "tests/reference/samples.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct ConcatCase {
  int64_t rows, a, b;
};
class ConcatTest : public testing::TestWithParam<ConcatCase> {};

template <typename Tensor>
void CheckConcat(const ConcatCase& c, const std::string& type) {
  std::mt19937 random(9);
  Tensor a(c.rows * c.a, random), b(c.rows * c.b, random), y(a.size() + b.size()), y2(y.size());
  for (auto [to, threads] : {std::pair(&y, 1), std::pair(&y2, 3)}) {
    const ConcatArgs args{.y = *to, .a = a, .b = b, .rows = c.rows, .a_width = c.a, .b_width = c.b};
    ASSERT_TRUE(CpuKernels().concat.can_run(args).ok());
    RunKernel(CpuKernels().concat, args, threads);
  }
  EXPECT_TRUE(y.SameBits(y2));
  std::vector<double> want(static_cast<size_t>(y.size()));
  reference::Concat(want.data(), a.ToDouble().data(), b.ToDouble().data(), c.rows, c.a, c.b);
  EXPECT_EQ(y.ToDouble(), want);

  // Split back, both parts together and each alone.
  Tensor a_back(a.size()), b_back(b.size()), a_alone(a.size()), b_alone(b.size());
  const SplitArgs both{.a = a_back, .b = b_back, .x = y, .rows = c.rows, .a_width = c.a, .b_width = c.b};
  SplitArgs first = both, second = both;
  first.a = a_alone, first.b = {};
  second.a = {}, second.b = b_alone;
  RunKernel(CpuKernels().split, both, 3);
  RunKernel(CpuKernels().split, first, 1);
  RunKernel(CpuKernels().split, second, 1);
  EXPECT_TRUE(a_back.SameBits(a) && b_back.SameBits(b) && a_alone.SameBits(a) && b_alone.SameBits(b));
  const std::string shape = absl::StrCat("R=", c.rows, " A=", c.a, " B=", c.b);
  AddToOpTable({"concat" + type, shape, 0, 0});
  AddToOpTable({"split" + type, shape, 0, 0});
}

TEST_P(ConcatTest, PutsColumnsBesideColumns) {
  CheckConcat<TestTensor>(GetParam(), "");
  CheckConcat<Bf16Tensor>(GetParam(), " bf16");
}

INSTANTIATE_TEST_SUITE_P(Shapes, ConcatTest,
                         testing::Values(ConcatCase{1, 1, 1}, ConcatCase{33, 40, 7}, ConcatCase{3, 700, 1500}));

}  // namespace
}  // namespace angel_ptm
