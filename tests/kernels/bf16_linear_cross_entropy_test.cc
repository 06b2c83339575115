#include <gtest/gtest.h>

#include "kernels/ops/linear_cross_entropy.h"
#include "tests/reference/linear_cross_entropy.h"
#include "tests/support/bf16_sums.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

struct Bf16LinearCrossEntropyShape {
  int64_t t, h, v, chunk_tokens;
};

// Every fifth target is masked; the others cover the first and last token of the vocabulary.
std::vector<int32_t> Bf16Targets(const Bf16LinearCrossEntropyShape& s) {
  std::vector<int32_t> targets(s.t);
  for (int64_t i = 0; i < s.t; ++i) targets[i] = i % 5 == 4 ? -1 : static_cast<int32_t>((i * (s.v - 1)) % s.v);
  return targets;
}

struct Bf16LossRun {
  Bf16LossRun(const Bf16LinearCrossEntropyShape& s, std::mt19937& random)
      : shape(s),
        targets(Bf16Targets(s)),
        x(s.t * s.h, random),
        weight(s.v * s.h, random, 0.5f),
        token_loss(s.t),
        dx(s.t * s.h),
        dweight(s.v * s.h),
        rounded_dweight(s.v * s.h) {}
  LinearCrossEntropyArgs Args() {
    return {.token_loss = token_loss,
            .dx = dx,
            .dweight = dweight,
            .x = x,
            .weight = weight,
            .targets = targets.data(),
            .t = shape.t,
            .h = shape.h,
            .v = shape.v,
            .chunk_tokens = shape.chunk_tokens};
  }
  void Run(const LinearCrossEntropyArgs& args, int threads) {
    RunKernel(CpuKernels().linear_cross_entropy, args, threads);
  }
  Bf16LinearCrossEntropyShape shape;
  std::vector<int32_t> targets;
  Bf16Tensor x, weight;
  TestTensor token_loss;
  Bf16Tensor dx;
  TestTensor dweight;
  Bf16Tensor rounded_dweight;
};

// How much dx and dweight may change if gradients of logits are rounded to bf16: the rounding's share of the sums of
// magnitudes, computed from gradients of logits in fp64.
void GradientMagnitudes(const Bf16LossRun& loss, std::vector<double>& dx, std::vector<double>& dweight) {
  const auto [t, h, v, chunk] = loss.shape;
  for (int64_t i = 0; i < t; ++i) {
    if (loss.targets[i] < 0) continue;
    std::vector<double> logits(v);
    double sum = 0;
    for (int64_t j = 0; j < v; ++j) {
      for (int64_t l = 0; l < h; ++l) {
        logits[j] += static_cast<double>(loss.x[i * h + l]) * static_cast<double>(loss.weight[j * h + l]);
      }
      sum += std::exp(logits[j]);
    }
    for (int64_t j = 0; j < v; ++j) {
      const double d = std::abs(std::exp(logits[j]) / sum - (j == loss.targets[i] ? 1 : 0));
      for (int64_t l = 0; l < h; ++l) {
        dx[i * h + l] += d * std::abs(static_cast<double>(loss.weight[j * h + l]));
        dweight[j * h + l] += d * std::abs(static_cast<double>(loss.x[i * h + l]));
      }
    }
  }
}

// Errors as shares of the allowed ones, which come from rounding the result and the gradients of logits. Errors of the
// fp32 gradients themselves are small beside that (1.2).
template <typename Got>
void ExpectGradient(const Got& got, const std::vector<double>& want, const std::vector<double>& magnitude,
                    double rounding) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double allowed = 1.2 * kBf16Rounding * magnitude[i] + rounding * std::abs(want[i]) + 1e-37;
    EXPECT_LE(std::abs(static_cast<double>(got[static_cast<int64_t>(i)]) - want[i]), allowed) << i;
  }
}

class Bf16LinearCrossEntropyTest : public testing::TestWithParam<Bf16LinearCrossEntropyShape> {};

TEST_P(Bf16LinearCrossEntropyTest, AgreesWithReference) {
  const auto [t, h, v, chunk_tokens] = GetParam();
  std::mt19937 random(8);
  Bf16LossRun got(GetParam(), random);
  got.Run(got.Args(), 1);
  std::vector<double> want(t), want_dx(t * h), want_dweight(v * h), dx_magnitude(t * h), dweight_magnitude(v * h);
  reference::LinearCrossEntropy(want.data(), want_dx.data(), want_dweight.data(), got.x.ToDouble().data(),
                                got.weight.ToDouble().data(), got.targets.data(), t, h, v);
  GradientMagnitudes(got, dx_magnitude, dweight_magnitude);
  EXPECT_LT(ScaledError(got.token_loss, want), 2e-6);
  for (int64_t i = 4; i < t; i += 5) EXPECT_EQ(got.token_loss[i], 0);
  ExpectGradient(got.dx, want_dx, dx_magnitude, kBf16Rounding);
  ExpectGradient(got.dweight, want_dweight, dweight_magnitude, 0);

  // A bf16 dweight adds one rounding of the running sum per chunk.
  LinearCrossEntropyArgs args = got.Args();
  args.dweight = got.rounded_dweight;
  got.Run(args, 2);
  const double chunks = static_cast<double>((t + chunk_tokens - 1) / chunk_tokens);
  for (double& value : dweight_magnitude) value *= 1 + chunks;
  ExpectGradient(got.rounded_dweight, want_dweight, dweight_magnitude, 0);
}

TEST_P(Bf16LinearCrossEntropyTest, BitsDependOnThreadsNotAtAll) {
  std::mt19937 random(9);
  Bf16LossRun got(GetParam(), random), other(GetParam(), random);
  other.x.CopyFrom(got.x);
  other.weight.CopyFrom(got.weight);
  got.Run(got.Args(), 1);
  for (const int threads : {2, 3, 4}) {
    other.Run(other.Args(), threads);
    EXPECT_TRUE(other.token_loss.SameBits(got.token_loss) && other.dx.SameBits(got.dx) &&
                other.dweight.SameBits(got.dweight))
        << threads;
  }
  LinearCrossEntropyArgs loss_only = other.Args();
  loss_only.dx = loss_only.dweight = {};
  other.token_loss.Fill(0);
  other.Run(loss_only, 2);
  EXPECT_LT(ScaledError(other.token_loss.data(), got.token_loss.data(), got.token_loss.size()), 1e-6);
}

// The last shape has several slices of the vocabulary.
INSTANTIATE_TEST_SUITE_P(Shapes, Bf16LinearCrossEntropyTest,
                         testing::Values(Bf16LinearCrossEntropyShape{1, 8, 2, 16},
                                         Bf16LinearCrossEntropyShape{3, 16, 33, 2},
                                         Bf16LinearCrossEntropyShape{65, 24, 257, 16},
                                         Bf16LinearCrossEntropyShape{33, 17, 1000, 64},
                                         Bf16LinearCrossEntropyShape{7, 6, 8300, 4}));

TEST(Bf16LinearCrossEntropyTest, GradientsAreAddedToDweight) {
  const Bf16LinearCrossEntropyShape shape = {20, 9, 70, 8};
  std::mt19937 random(10);
  Bf16LossRun got(shape, random);
  got.Run(got.Args(), 1);
  const std::vector<float> once = got.dweight.Copy();
  LinearCrossEntropyArgs args = got.Args();
  args.accumulate_dweight = true;
  got.Run(args, 1);
  for (int64_t i = 0; i < got.dweight.size(); ++i) EXPECT_NEAR(got.dweight[i], 2 * once[i], 1e-5f) << i;
}

// A token whose logits are not finite has a non-finite loss and gradient, and changes no other token's bits.
TEST(Bf16LinearCrossEntropyTest, NonFiniteLogitsAreSeenInTheirTokenAlone) {
  const Bf16LinearCrossEntropyShape shape = {19, 24, 300, 8};
  const int64_t bad_token = 10;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::mt19937 random(11), again(11);
    Bf16LossRun want(shape, random), got(shape, again);
    got.x.Set(bad_token * shape.h + 5, bad);
    want.Run(want.Args(), 2);
    got.Run(got.Args(), 2);
    for (int64_t t = 0; t < shape.t; ++t) {
      EXPECT_EQ(got.token_loss[t] == want.token_loss[t], t != bad_token) << t;
      for (int64_t i = t * shape.h; i < (t + 1) * shape.h; ++i) {
        if (t == bad_token) {
          EXPECT_FALSE(std::isfinite(got.dx[i])) << i;
        } else {
          EXPECT_EQ(got.dx.data()[i].bits, want.dx.data()[i].bits) << i;
        }
      }
    }
    EXPECT_FALSE(std::isfinite(got.token_loss[bad_token]));
    for (int64_t i = 0; i < got.dweight.size(); ++i) EXPECT_FALSE(std::isfinite(got.dweight[i])) << i;
  }
}

// The workspace holds one chunk of logits and of dx, and the packed operands of their products.
TEST(Bf16LinearCrossEntropyTest, WorkspaceIsThatOfOneChunk) {
  std::mt19937 random(12);
  Bf16LossRun loss({4, 8, 16, 4}, random);
  LinearCrossEntropyArgs args = loss.Args();
  args.h = 512;
  args.v = 100000;
  args.chunk_tokens = 64;
  for (const int64_t t : {64, 1000, 1 << 30}) {
    args.t = t;
    EXPECT_LE(WorkspaceBytes(args, 2), 64 * (args.v + args.h) * 4 + (8 << 20) + 2 * (400 << 10)) << t;
  }
}

}  // namespace
}  // namespace angel_ptm
