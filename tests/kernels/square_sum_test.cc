#include "kernels/ops/square_sum.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

void AddRange(FixedPointSum& total, const TestTensor& values, int64_t begin, int64_t end, int threads = 1) {
  CpuKernels().square_sum({.total = &total, .values = {values.data() + begin, DType::kFloat32}, .n = end - begin},
                          TestContext(threads));
}

TEST(SquareSumTest, AgreesWithLongDouble) {
  for (const int64_t groups : {1, 3, 65, 1000}) {
    std::mt19937 random(11);
    TestTensor values(groups * kSquareSumGroup, random, 1e-3f);
    values[5] = 1e6f;  // a wide range of magnitudes
    FixedPointSum total;
    AddRange(total, values, 0, values.size());
    long double want = 0;
    for (int64_t i = 0; i < values.size(); ++i) want += static_cast<long double>(values[i]) * values[i];
    const double error = static_cast<double>(std::abs(total.ToDouble() - want) / want);
    EXPECT_LT(error, 1e-14);
    EXPECT_EQ(total.non_finite, 0u);
    AddToOpTable({"square_sum", absl::StrCat("n=", values.size()), error, {}});
  }
}

TEST(SquareSumTest, BitsDependNeitherOnSplitsAndOrderNorOnThreads) {
  const int64_t groups = 333, n = groups * kSquareSumGroup;
  std::mt19937 random(12);
  TestTensor values(n, random);
  FixedPointSum whole;
  AddRange(whole, values, 0, n);
  for (const int threads : {2, 3, 7}) {
    FixedPointSum total;
    AddRange(total, values, 0, n, threads);
    EXPECT_EQ(total, whole);
  }
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<int64_t> borders = {0, groups};
    for (int cut = 0; cut < 9; ++cut) borders.push_back(static_cast<int64_t>(random() % groups));
    std::sort(borders.begin(), borders.end());
    std::vector<size_t> order(borders.size() - 1);
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    FixedPointSum total;
    for (const size_t i : order)
      AddRange(total, values, borders[i] * kSquareSumGroup, borders[i + 1] * kSquareSumGroup);
    EXPECT_EQ(total, whole);
  }
  // Control: the comparison detects a change in the last bit of one value.
  values[1] = std::nextafter(values[1], 10.0f);
  FixedPointSum changed;
  AddRange(changed, values, 0, n);
  EXPECT_NE(changed, whole);
}

// Groups may be reordered. Within a group the additions round in the order of square_sum.cc.
TEST(SquareSumTest, TheOrderWithinAGroupIsPartOfTheSum) {
  TestTensor values(kSquareSumGroup);
  const auto sum_of = [&](float first, float second, float third) {
    values.Fill(0);
    values[0] = first;  // elements 16 apart are added one after the other
    values[16] = second;
    values[32] = third;
    FixedPointSum total;
    AddRange(total, values, 0, values.size());
    return total.ToDouble();
  };
  // Near 2^54 doubles are 4 apart: 2.25 added twice rounds up twice, 4.5 only once.
  EXPECT_EQ(sum_of(0x1p27f, 1.5f, 1.5f), 0x1p54 + 8);
  EXPECT_EQ(sum_of(1.5f, 1.5f, 0x1p27f), 0x1p54 + 4);
}

TEST(SquareSumTest, BFloat16ValuesAreTheFp32OnesTheyStandFor) {
  std::mt19937 random(13);
  const int64_t n = 65 * kSquareSumGroup;
  const Bf16Tensor values(n, random);
  TestTensor wide(n);
  for (int64_t i = 0; i < n; ++i) wide[i] = values[i];
  FixedPointSum total, want;
  CpuKernels().square_sum({.total = &total, .values = values, .n = n}, TestContext(2));
  AddRange(want, wide, 0, n);
  EXPECT_EQ(total, want);
}

TEST(SquareSumTest, NonFiniteValuesAreCounted) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e25f}) {
    std::mt19937 random(13);
    TestTensor values(8 * kSquareSumGroup, random);
    values[3 * kSquareSumGroup + 200] = bad;
    FixedPointSum total;
    AddRange(total, values, 0, values.size(), 2);
    EXPECT_EQ(total.non_finite, 1u) << bad;
    EXPECT_TRUE(std::isnan(total.ToDouble()));
  }
}

}  // namespace
}  // namespace angel_ptm
