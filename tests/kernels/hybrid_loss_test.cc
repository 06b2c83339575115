// Compares the loss of diffusion models that learn their variance, in fp32 and bf16, with its fp64 reference and
// differences of it.
#include "kernels/ops/hybrid_loss.h"

#include <gtest/gtest.h>

#include <array>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/reference/hybrid_loss.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct HybridCase {
  int64_t r, c;
};

// Late, early and first steps of a schedule, one whose variance is nearly known, and decoding; each together with a
// squared error and alone.
constexpr std::array<std::array<float, kBoundColumns>, 6> kBounds = {{{1, -4.1f, 0.002f, 0.014f, 0},
                                                                      {0.5f, -6.2f, 0.08f, -0.03f, 0},
                                                                      {1, -7.8f, 0.71f, -0.014f, 0},
                                                                      {2, -3.9f, 1e-4f, 0.02f, 0},
                                                                      {1, -7.8f, 0.71f, -0.03f, 1},
                                                                      {0, -7.8f, 0.71f, -0.03f, 1}}};
constexpr int64_t kSamples = 2 * kBounds.size();

double HybridError(const TestTensor& got, const std::vector<double>& want) { return ScaledError(got, want); }
double HybridError(const Bf16Tensor& got, const std::vector<double>& want) { return ErrorBeyondRounding(got, want); }

// The elements of one sample's predictions or fractions, whose gradients differ in size.
template <typename Tensor>
double GradientError(const Tensor& dx, const std::vector<double>& want, const HybridCase& z, int64_t sample, bool v) {
  Tensor got(z.r * z.c);
  std::vector<double> wanted(z.r * z.c);
  for (int64_t i = 0; i < z.r * z.c; ++i) {
    const int64_t at = ((sample * z.r + i / z.c) * 2 + (v ? 1 : 0)) * z.c + i % z.c;
    if constexpr (std::is_same_v<Tensor, Bf16Tensor>) got.data()[i] = dx.data()[at];
    if constexpr (std::is_same_v<Tensor, TestTensor>) got[i] = dx[at];
    wanted[i] = want[at];
  }
  return HybridError(got, wanted);
}

template <typename Tensor>
void CheckHybridLoss(const HybridCase& z) {
  const int64_t n = z.r * z.c;
  std::mt19937 random(4);
  Tensor x(kSamples * 2 * n, random), dx(kSamples * 2 * n);
  TestTensor target(kSamples * n, random), clean(kSamples * n, random, 0.7f), weight(kSamples), loss(2 * kSamples);
  TestTensor bound(kSamples * kBoundColumns), alone(2 * kSamples);
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const size_t of = static_cast<size_t>(sample) % kBounds.size();
    std::ranges::copy(kBounds[of], bound.data() + sample * kBoundColumns);
    weight[sample] = sample < static_cast<int64_t>(kBounds.size()) ? 0.5f + 0.1f * static_cast<float>(sample) : 0.0f;
  }
  const HybridLossArgs args = {loss, dx, x, target, clean, weight, bound, kSamples, z.r, z.c};
  RunKernel(CpuKernels().hybrid_loss, args, 2);
  const std::vector<double> x64 = x.ToDouble(), target64 = target.ToDouble(), clean64 = clean.ToDouble();
  std::vector<double> squared(kSamples), terms(kSamples), want_dx(kSamples * 2 * n);
  reference::HybridLoss(squared.data(), terms.data(), want_dx.data(), x64.data(), target64.data(), clean64.data(),
                        weight.ToDouble().data(), bound.ToDouble().data(), kSamples, z.r, z.c);
  double forward_error = 0, gradient_error = 0;
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const double size = std::max(std::abs(squared[sample] + terms[sample]), 1e-6);
    for (const auto& [got, want] :
         {std::pair(loss[sample], squared[sample]), std::pair(loss[kSamples + sample], terms[sample])}) {
      forward_error = std::max(forward_error, std::abs(double{got} - want) / size);
    }
    for (const bool v : {false, true}) {
      gradient_error = std::max(gradient_error, GradientError(dx, want_dx, z, sample, v));
    }
  }
  EXPECT_LT(forward_error, 2e-6);
  EXPECT_LT(gradient_error, 3e-6);
  // The loss is the same without a gradient and at any number of threads.
  RunKernel(CpuKernels().hybrid_loss, {alone, {}, x, target, clean, weight, bound, kSamples, z.r, z.c}, 1);
  EXPECT_TRUE(alone.SameBits(loss));
  AddToOpTable({std::is_same_v<Tensor, Bf16Tensor> ? "hybrid_loss bf16" : "hybrid_loss",
                absl::StrCat("B=", kSamples, " R=", z.r, " C=", z.c), forward_error, gradient_error});
}

class HybridLossTest : public testing::TestWithParam<HybridCase> {};

TEST_P(HybridLossTest, AgreesWithTheReference) {
  CheckHybridLoss<TestTensor>(GetParam());
  CheckHybridLoss<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, HybridLossTest,
                         testing::Values(HybridCase{1, 1}, HybridCase{64, 4}, HybridCase{33, 12}, HybridCase{7, 300}));

// The best variance is the posterior's plus the squared error of the mean.
TEST(HybridLoss, LearnsTheErrorOfTheMean) {
  TestTensor x(2), target(1), clean(1), weight(1), bound(kBoundColumns), loss(2), dx(2);
  std::ranges::copy(kBounds[1], bound.data());
  x[0] = 1.5f, target[0] = clean[0] = weight[0] = 0;
  const double least = double{bound[kBoundLogLeast]}, error = 1.5 * double{bound[kBoundError]};
  const double best = 2 * (std::log(std::exp(least) + error * error) - least) / double{bound[kBoundLogRange]} - 1;
  const auto slope = [&](double v) {
    x[1] = static_cast<float>(v);
    RunKernel(CpuKernels().hybrid_loss, {loss, dx, x, target, clean, weight, bound, 1, 1, 1}, 1);
    EXPECT_EQ(dx[0], 0);  // the bound does not train the mean
    return dx[1];
  };
  EXPECT_NEAR(slope(best), 0, 1e-6);
  EXPECT_LT(slope(best - 1), -1e-4);
  EXPECT_GT(slope(best + 1), 1e-4);
}

// A prediction that is far off at the last step has the least probability, whose gradient is zero.
TEST(HybridLoss, ImpossibleImagesCostABoundedNumberOfNats) {
  TestTensor x(2), target(1), clean(1), weight(1), bound(kBoundColumns), loss(2), dx(2);
  x[0] = 40, x[1] = 0, target[0] = clean[0] = weight[0] = 0;
  std::ranges::copy(kBounds[4], bound.data());
  RunKernel(CpuKernels().hybrid_loss, {loss, dx, x, target, clean, weight, bound, 1, 1, 1}, 1);
  EXPECT_EQ(loss[0], 0);
  EXPECT_FLOAT_EQ(loss[1], static_cast<float>(-std::log(1e-12)));
  EXPECT_EQ(dx[1], 0);
}

}  // namespace
}  // namespace angel_ptm
