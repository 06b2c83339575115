#include "tests/reference/ema.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/ema.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

void Average(TestTensor& ema, const TestTensor& param, int64_t begin, int64_t end, float rate, int threads = 1) {
  const EmaScalars scalars{rate};
  CpuKernels().ema(
      {.ema = {ema.data() + begin}, .param = {param.data() + begin}, .n = end - begin, .scalars = &scalars},
      TestContext(threads));
}

TEST(EmaTest, TenStepsAgreeWithTheFormula) {
  for (const int64_t n : {1, 3, 65, 5000}) {
    std::mt19937 random(18);
    TestTensor ema(n, random);
    std::vector<double> want = ema.ToDouble();
    for (int step = 0; step < 10; ++step) {
      const TestTensor param(n, random);
      const float rate = 1.0f / static_cast<float>(2 + step);
      Average(ema, param, 0, n, rate);
      for (int64_t i = 0; i < n; ++i) {
        reference::Ema(&want[i], static_cast<double>(param[i]), 1 - static_cast<double>(rate));
      }
    }
    const double error = ScaledError(ema, want);
    EXPECT_LT(error, 1e-6);
    AddToOpTable({"ema", absl::StrCat("n=", n, " steps=10"), error, {}});
  }
}

TEST(EmaTest, BitsDependNeitherOnSplitsNorOnThreads) {
  const int64_t n = 20000;
  std::mt19937 random(19);
  const TestTensor start(n, random), param(n, random);
  TestTensor whole(n);
  whole.CopyFrom(start);
  Average(whole, param, 0, n, 0.01f);
  for (int64_t cut : {1, 4096, 12345}) {
    TestTensor split(n);
    split.CopyFrom(start);
    Average(split, param, cut, n, 0.01f, 3);
    EXPECT_FALSE(split.SameBits(whole));
    Average(split, param, 0, cut, 0.01f, 2);
    EXPECT_TRUE(split.SameBits(whole));
  }
}

TEST(EmaTest, ARateOfOneIsTheParameters) {
  std::mt19937 random(20);
  TestTensor ema(100, random);
  const TestTensor param(100, random);
  ema.Fill(0);
  Average(ema, param, 0, 100, 1.0f);
  EXPECT_TRUE(ema.SameBits(param));
}

}  // namespace
}  // namespace angel_ptm
