#include "kernels/ops/cast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

TEST(CastTest, RoundsToTheNearestAndBack) {
  for (const int64_t n : {1, 17, 10000}) {
    std::mt19937 random(5);
    const TestTensor x(n, random);
    Bf16Tensor narrow(n);
    TestTensor wide(n);
    for (const int threads : {1, 3}) {
      CpuKernels().cast(CastArgs{.y = narrow, .x = x, .n = n}, TestContext(threads));
      CpuKernels().cast(CastArgs{.y = wide, .x = narrow, .n = n}, TestContext(threads));
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(wide[i], narrow[i]);
        const double want = static_cast<double>(x[i]), ulp = std::exp2(std::ilogb(want) - 7);
        worst = std::max(worst, std::abs(static_cast<double>(wide[i]) - want) / ulp);
      }
      EXPECT_LE(worst, 0.5);
      AddToOpTable({"cast", absl::StrCat("n=", n, " threads=", threads), worst * 0x1p-7, {}});
    }
  }
}

TEST(CastTest, OtherTypesAreNamed) {
  const auto refusal = [](DType y, DType x) {
    return CpuKernels().cast.can_run({.y = {nullptr, y}, .x = {nullptr, x}});
  };
  EXPECT_TRUE(refusal(DType::kBFloat16, DType::kFloat32).ok());
  EXPECT_TRUE(refusal(DType::kFloat32, DType::kBFloat16).ok());
  EXPECT_EQ(refusal(DType::kFloat32, DType::kInt32).message(),
            "cpu backend: cast takes F32 to BF16 or BF16 to F32, got I32 to F32");
}

}  // namespace
}  // namespace angel_ptm
