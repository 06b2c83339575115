#include "kernels/ops/loss_sum.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

void AddTo(double& loss, double& weight, const TestTensor& values, const TestTensor& batch_weight) {
  double first = 0.25, want = 0;
  const int64_t first_n = values.size() / 2;
  for (int64_t i = 0; i < first_n; ++i) want += double{values[i]};
  CpuKernels().loss_sum(LossSumArgs{.loss = &loss,
                                    .first = &first,
                                    .weight = &weight,
                                    .values = values,
                                    .batch_weight = batch_weight,
                                    .n = values.size(),
                                    .first_n = first_n},
                        TestContext(1));
  EXPECT_EQ(first, 0.25 + want);
}

TEST(LossSumTest, AgreesWithLongDouble) {
  for (const int64_t n : {1, 31, 4096}) {
    std::mt19937 random(13);
    const TestTensor values(n, random, 3.0f);
    TestTensor batch_weight(1);
    batch_weight[0] = 16777216.0f;  // the most tokens that fp32 counts
    double loss = 0, weight = 0;
    AddTo(loss, weight, values, batch_weight);
    AddTo(loss, weight, values, batch_weight);
    long double want = 0, size = 0;
    for (int64_t i = 0; i < n; ++i) {
      want += 2 * static_cast<long double>(values[i]);
      size += 2 * std::abs(static_cast<long double>(values[i]));
    }
    const double error = static_cast<double>(std::abs(loss - want) / size);
    EXPECT_LT(error, 1e-14);
    EXPECT_EQ(weight, 33554432.0);
    AddToOpTable({"loss_sum", absl::StrCat("n=", n), error, {}});
  }
}

// A micro-batch's losses are summed on their own and then added, so that a step's loss does not depend on how many
// micro-batches a kernel call covers.
TEST(LossSumTest, ABatchIsSummedByItself) {
  TestTensor values(2), batch_weight(1);
  values.Fill(1.5f);
  batch_weight[0] = 0;
  const double before = 18014398509481984.0;  // 2^54: doubles are 4 apart
  double loss = before, weight = 7;
  AddTo(loss, weight, values, batch_weight);
  EXPECT_EQ(loss, before + 4);  // 3 rounds up; adding 1.5 twice would have rounded down twice
  EXPECT_EQ(weight, 7);
}

}  // namespace
}  // namespace angel_ptm
