// Compares group norms, with and without SiLU, in fp32 and bf16 with plain fp64 loops and finite differences of these.
#include "tests/reference/group_norm.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/group_norm.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

template <typename Tensor>
struct GroupNorms {
  explicit GroupNorms(const reference::GroupNormShape& shape)
      : z(shape),
        random(12),
        x(z.b * z.s * z.c, random, 2.0f),
        weight(z.c, random),
        bias(z.c, random),
        dy(x.size(), random),
        y(x.size()),
        dx(x.size()),
        dweight(z.c),
        dbias(z.c),
        statistics(2 * z.b * z.groups) {}
  void Run(int threads) {
    dweight.Fill(1.0f);
    dbias.Fill(-1.0f);
    GroupNormArgs args{.y = y, .statistics = statistics, .x = x, .weight = weight, .bias = bias};
    args.b = z.b, args.s = z.s, args.c = z.c, args.groups = z.groups, args.silu = z.silu;
    args.epsilon = static_cast<float>(z.epsilon);
    GroupNormGradArgs grad{.dx = dx, .dweight = dweight, .dbias = dbias, .dy = dy, .x = x, .statistics = statistics};
    grad.weight = weight, grad.bias = bias;
    grad.b = z.b, grad.s = z.s, grad.c = z.c, grad.groups = z.groups, grad.silu = z.silu;
    grad.accumulate_dweight = true;
    EXPECT_TRUE(CpuKernels().group_norm.can_run(args).ok() && CpuKernels().group_norm_grad.can_run(grad).ok());
    RunKernel(CpuKernels().group_norm, args, threads);
    RunKernel(CpuKernels().group_norm_grad, grad, threads);
  }

  reference::GroupNormShape z;
  std::mt19937 random;
  Tensor x, weight, bias, dy, y, dx;
  TestTensor dweight, dbias, statistics;
};

template <typename Tensor>
void CheckGroupNorm(const reference::GroupNormShape& z) {
  constexpr bool kIsBf16 = std::is_same_v<Tensor, Bf16Tensor>;
  GroupNorms<Tensor> got(z), threaded(z);
  got.Run(1);
  for (const int threads : {2, 3, 5}) {
    threaded.Run(threads);
    EXPECT_TRUE(got.y.SameBits(threaded.y) && got.statistics.SameBits(threaded.statistics)) << threads;
    EXPECT_TRUE(got.dx.SameBits(threaded.dx) && got.dweight.SameBits(threaded.dweight)) << threads;
    EXPECT_TRUE(got.dbias.SameBits(threaded.dbias)) << threads;
  }
  std::vector<double> x = got.x.ToDouble();
  const std::vector<double> weight = got.weight.ToDouble(), bias = got.bias.ToDouble(), dy = got.dy.ToDouble();
  std::vector<double> y(x.size()), dx(x.size()), dweight(weight.size()), dbias(weight.size());
  reference::GroupNorm(y.data(), x.data(), weight.data(), bias.data(), z);
  reference::GroupNormGrad(dx.data(), dweight.data(), dbias.data(), dy.data(), x.data(), weight.data(), bias.data(), z);
  const double forward_error = ErrorOfType(got.y, y);
  double gradient_error = ErrorOfType(got.dx, dx);
  if constexpr (!kIsBf16) {
    const auto loss = [&] {
      reference::GroupNorm(y.data(), x.data(), weight.data(), bias.data(), z);
      return Dot(y, dy);
    };
    gradient_error = std::max(gradient_error, FiniteDifferenceError(got.dx.data(), x, loss, 100));
  }
  for (double& value : dweight) value += 1;
  for (double& value : dbias) value -= 1;
  gradient_error = std::max({gradient_error, ErrorOfType(got.dweight, dweight), ErrorOfType(got.dbias, dbias)});
  EXPECT_LT(forward_error, 2e-6);
  EXPECT_LT(gradient_error, 4e-6);
  AddToOpTable({kIsBf16 ? "group_norm bf16" : "group_norm",
                absl::StrCat("B=", z.b, " S=", z.s, " C=", z.c, " G=", z.groups, z.silu ? " silu" : ""), forward_error,
                gradient_error});
}

class GroupNormTest : public testing::TestWithParam<reference::GroupNormShape> {};

TEST_P(GroupNormTest, AgreesWithReference) {
  CheckGroupNorm<TestTensor>(GetParam());
  CheckGroupNorm<Bf16Tensor>(GetParam());
}

constexpr double kGroupNormEpsilon = static_cast<double>(1e-6f);
INSTANTIATE_TEST_SUITE_P(Shapes, GroupNormTest,
                         testing::Values(reference::GroupNormShape{1, 1, 6, 2, false, kGroupNormEpsilon},
                                         reference::GroupNormShape{2, 37, 48, 4, false, kGroupNormEpsilon},
                                         reference::GroupNormShape{3, 17, 33, 11, true, kGroupNormEpsilon},
                                         reference::GroupNormShape{1, 1500, 10, 5, true, kGroupNormEpsilon},
                                         reference::GroupNormShape{2, 70, 64, 32, true, kGroupNormEpsilon}));

TEST(GroupNormTest, ColumnsFarFromZeroKeepTheirDigits) {
  const int64_t s = 300, c = 8;
  std::mt19937 random(5);
  TestTensor x(s * c, random), shifted(s * c), y(s * c), y_shifted(s * c), statistics(4), weight(c), bias(c);
  weight.Fill(1.0f);
  bias.Fill(0.0f);
  for (int64_t i = 0; i < s * c; ++i) {
    x[i] = std::round(x[i] * 16) / 16;
    shifted[i] = x[i] + 4096;
  }
  for (auto [from, to] : {std::pair(&x, &y), std::pair(&shifted, &y_shifted)}) {
    GroupNormArgs args{.y = *to, .statistics = statistics, .x = *from, .weight = weight, .bias = bias};
    args.b = 1, args.s = s, args.c = c, args.groups = 2;
    RunKernel(CpuKernels().group_norm, args, 1);
  }
  EXPECT_LT(ScaledError(y_shifted, y.ToDouble()), 1e-3);
}

}  // namespace
}  // namespace angel_ptm
