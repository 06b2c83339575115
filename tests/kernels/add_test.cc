#include "kernels/ops/add.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct AddShape {
  int64_t rows, width, begin, end;
};
class AddTest : public testing::TestWithParam<AddShape> {};

TEST_P(AddTest, AgreesWithReference) {
  const auto [rows, width, begin, end] = GetParam();
  std::mt19937 random(1);
  const TestTensor x(rows * width, random), before(rows * width, random);
  for (const bool accumulate : {false, true}) {
    TestTensor y(rows * width), y2(rows * width);
    if (accumulate) {
      y.CopyFrom(before);
      y2.CopyFrom(before);
    }
    AddArgs args = {.y = y,
                    .x = x,
                    .rows = rows,
                    .width = width,
                    .column_begin = begin,
                    .column_end = end,
                    .accumulate = accumulate};
    RunKernel(CpuKernels().add, args, 1);
    args.y = y2;
    RunKernel(CpuKernels().add, args, 2);
    EXPECT_TRUE(y.SameBits(y2));
    std::vector<double> want(rows * width);
    for (int64_t i = 0; i < rows * width; ++i) {
      const bool inside = i % width >= begin && i % width < end;
      want[i] = (accumulate ? static_cast<double>(before[i]) : 0) + (inside ? static_cast<double>(x[i]) : 0);
    }
    const double error = ScaledError(y, want);
    EXPECT_LT(error, 1e-7);
    AddToOpTable({"add", absl::StrCat("R=", rows, " W=", width), error, {}});
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AddTest,
                         testing::Values(AddShape{1, 1, 0, 1}, AddShape{5, 7, 0, 7}, AddShape{65, 48, 16, 32},
                                         AddShape{3, 2000, 1999, 2000}, AddShape{4097, 1, 0, 1}));

TEST(AddTest, OfNothingIsZero) {
  TestTensor y(5000);
  RunKernel(CpuKernels().add, {.y = y, .rows = 50, .width = 100, .column_end = 100}, 2);
  for (int64_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], 0);
}

}  // namespace
}  // namespace angel_ptm
