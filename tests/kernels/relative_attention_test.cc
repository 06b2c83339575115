#include "kernels/ops/relative_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/reference/relative_attention.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct RelativeCase {
  int64_t b, s, heads, d;
  std::vector<int32_t> key_counts;
};

double ErrorOf(const TestTensor& got, const std::vector<double>& want) { return ScaledError(got, want); }
double ErrorOf(const Bf16Tensor& got, const std::vector<double>& want) { return ErrorBeyondRounding(got, want); }

void SetElement(TestTensor& tensor, int64_t i, float value) { tensor[i] = value; }
void SetElement(Bf16Tensor& tensor, int64_t i, float value) { tensor.Set(i, value); }

constexpr int64_t kPlaces = 6;

template <typename Tensor>
void CheckRelativeAttention(const RelativeCase& c, const char* name) {
  const int64_t t = c.b * c.s, width = c.heads * c.d;
  std::mt19937 random(31);
  Tensor qkv(t * 3 * width, random, 0.7f), table(kPlaces * c.heads, random, 2.0f), o(t * width), o2(t * width);
  std::vector<int32_t> places(static_cast<size_t>(2 * c.s - 1));
  for (int32_t& place : places) place = static_cast<int32_t>(random() % kPlaces);
  const auto run = [&](Tensor& to, int threads) {
    const RelativeAttentionArgs args{to,  qkv, table,   places.data(), c.key_counts.data(),
                                     c.b, c.s, c.heads, c.d,           kPlaces};
    EXPECT_TRUE(CpuKernels().relative_attention.can_run(args).ok());
    RunKernel(CpuKernels().relative_attention, args, threads);
  };
  std::vector<double> want(static_cast<size_t>(t * width));
  reference::RelativeAttention(want.data(), qkv.ToDouble().data(), table.ToDouble().data(), places.data(),
                               c.key_counts.data(), {c.b, c.s, c.heads, c.d});
  // Keys and values after the counts are not read.
  for (int64_t row = 0; row < c.b; ++row) {
    for (int64_t j = c.key_counts[row]; j < c.s; ++j) {
      for (int64_t i = width; i < 3 * width; ++i) SetElement(qkv, (row * c.s + j) * 3 * width + i, NAN);
    }
  }
  run(o, 1);
  run(o2, 3);
  EXPECT_TRUE(o.SameBits(o2));
  const double error = ErrorOf(o, want);
  EXPECT_LT(error, 2e-6);
  AddToOpTable({name, absl::StrCat("B=", c.b, " S=", c.s, " Q=", c.heads, " D=", c.d), error, {}});
}

class RelativeAttentionTest : public testing::TestWithParam<RelativeCase> {};

TEST_P(RelativeAttentionTest, AgreesWithReference) {
  CheckRelativeAttention<TestTensor>(GetParam(), "relative_attention");
  CheckRelativeAttention<Bf16Tensor>(GetParam(), "relative_attention bf16");
}

INSTANTIATE_TEST_SUITE_P(Shapes, RelativeAttentionTest,
                         testing::Values(RelativeCase{1, 1, 1, 2, {1}}, RelativeCase{2, 5, 3, 6, {5, 1}},
                                         RelativeCase{2, 70, 2, 64, {70, 33}}, RelativeCase{1, 130, 1, 40, {129}}));

}  // namespace
}  // namespace angel_ptm
