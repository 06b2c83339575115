#include "tests/reference/adamw.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/adamw.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr float kBeta1 = 0.9f, kBeta2 = 0.95f, kEpsilon = 1e-8f, kWeightDecay = 0.1f;

AdamWScalars ScalarsOfStep(int64_t t) {
  return {.learning_rate = 1e-2f / static_cast<float>(t),
          .gradient_scale = 0.37f,
          .bias_correction1 = static_cast<float>(1 - std::pow(static_cast<double>(kBeta1), static_cast<double>(t))),
          .bias_correction2 = static_cast<float>(1 - std::pow(static_cast<double>(kBeta2), static_cast<double>(t)))};
}

struct State {
  explicit State(int64_t n) : p(n), m(n), v(n) {
    std::mt19937 random(14);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) p[i] = normal(random);
    m.Fill(0);
    v.Fill(0);
  }
  bool SameBits(const State& other) const { return p.SameBits(other.p) && m.SameBits(other.m) && v.SameBits(other.v); }

  // Updates elements [begin, end) of a unit. With `rounded`, p is the master copy of these bf16 parameters.
  void Update(const TestTensor& grad, int64_t begin, int64_t end, const std::vector<ElementSpan>& no_decay,
              const AdamWScalars& scalars, int threads = 1, Bf16Tensor* rounded = nullptr) {
    UpdateWith({grad.data() + begin}, begin, end, no_decay, scalars, threads, rounded);
  }
  void UpdateWith(const ConstOperand& grad, int64_t begin, int64_t end, const std::vector<ElementSpan>& no_decay,
                  const AdamWScalars& scalars, int threads, Bf16Tensor* rounded) {
    const Operand fp32 = {p.data() + begin};
    const AdamWArgs args = {.param = rounded ? Operand{rounded->data() + begin, DType::kBFloat16} : fp32,
                            .master = rounded ? fp32 : Operand(),
                            .m = {m.data() + begin},
                            .v = {v.data() + begin},
                            .grad = grad,
                            .n = end - begin,
                            .unit_offset = begin,
                            .no_decay = no_decay.data(),
                            .no_decay_count = static_cast<int64_t>(no_decay.size()),
                            .scalars = &scalars,
                            .beta1 = kBeta1,
                            .beta2 = kBeta2,
                            .epsilon = kEpsilon,
                            .weight_decay = kWeightDecay};
    EXPECT_TRUE(CpuKernels().adamw.can_run(args).ok());
    CpuKernels().adamw(args, TestContext(threads));
  }
  TestTensor p, m, v;
};

bool Decays(int64_t i, const std::vector<ElementSpan>& no_decay) {
  return std::none_of(no_decay.begin(), no_decay.end(),
                      [&](const ElementSpan& s) { return i >= s.begin && i < s.end; });
}

TEST(AdamWTest, TenStepsAgreeWithTheTextbook) {
  for (const int64_t n : {1, 3, 65, 5000}) {
    const std::vector<ElementSpan> no_decay = {{1, 2}, {17, 40}, {4000, 6000}};
    State state(n);
    std::vector<double> p = state.p.ToDouble(), m(n), v(n);
    std::mt19937 random(15);
    for (int64_t t = 1; t <= 10; ++t) {
      const TestTensor grad(n, random);
      const AdamWScalars scalars = ScalarsOfStep(t);
      state.Update(grad, 0, n, no_decay, scalars);
      for (int64_t i = 0; i < n; ++i) {
        reference::AdamW(
            &p[i], &m[i], &v[i], static_cast<double>(grad[i]) * static_cast<double>(scalars.gradient_scale), t,
            static_cast<double>(scalars.learning_rate), static_cast<double>(kBeta1), static_cast<double>(kBeta2),
            static_cast<double>(kEpsilon), Decays(i, no_decay) ? static_cast<double>(kWeightDecay) : 0);
      }
    }
    const double error = std::max({ScaledError(state.p, p), ScaledError(state.m, m), ScaledError(state.v, v)});
    EXPECT_LT(error, 1e-6);
    AddToOpTable({"adamw", absl::StrCat("n=", n, " steps=10"), error, {}});
  }
}

// The operations of the header in their order, with one rounding each: every instruction set and CUDA must reproduce
// these bits.
TEST(AdamWTest, BitsAreTheStatedSequence) {
  const int64_t n = 1000;
  State state(n), want(n);
  std::mt19937 random(16);
  const auto round = [](float value) {
    volatile float rounded = value;  // keeps the compiler from fusing operations
    return static_cast<float>(rounded);
  };
  for (int64_t t = 1; t <= 3; ++t) {
    const TestTensor grad(n, random);
    const AdamWScalars s = ScalarsOfStep(t);
    state.Update(grad, 0, n, {}, s);
    for (int64_t i = 0; i < n; ++i) {
      const float g = round(grad[i] * s.gradient_scale);
      want.m[i] = round(want.m[i] + round(round(1 - kBeta1) * round(g - want.m[i])));
      want.v[i] = round(want.v[i] + round(round(1 - kBeta2) * round(round(g * g) - want.v[i])));
      const float denominator = round(round(std::sqrt(round(want.v[i] / s.bias_correction2))) + kEpsilon);
      const float step = round(round(want.m[i] / s.bias_correction1) / denominator);
      const float decayed = round(step + round(kWeightDecay * want.p[i]));
      want.p[i] = round(want.p[i] - round(s.learning_rate * decayed));
    }
  }
  EXPECT_TRUE(state.SameBits(want));
}

TEST(AdamWTest, BitsDependNeitherOnSplitsNorOnThreads) {
  const int64_t n = 20000;
  const std::vector<ElementSpan> no_decay = {{0, 3}, {100, 117}, {118, 119}, {9000, 15001}};
  std::mt19937 random(17);
  const TestTensor grad(n, random), grad2(n, random);
  State whole(n);
  whole.Update(grad, 0, n, no_decay, ScalarsOfStep(1));
  whole.Update(grad2, 0, n, no_decay, ScalarsOfStep(2));
  for (int trial = 0; trial < 12; ++trial) {
    // Half of the trials cut at multiples of 16 (as pages do), half anywhere.
    const int64_t grain = trial % 2 == 0 ? 16 : 1;
    std::vector<int64_t> borders = {0, n};
    for (int cut = 0; cut < trial; ++cut) borders.push_back(static_cast<int64_t>(random() % (n / grain)) * grain);
    std::sort(borders.begin(), borders.end());
    State split(n);
    for (size_t i = borders.size() - 1; i-- > 0;) {
      split.Update(grad, borders[i], borders[i + 1], no_decay, ScalarsOfStep(1), 1 + trial % 3);
    }
    EXPECT_FALSE(split.SameBits(whole));  // the second step is still missing
    for (size_t i = 0; i + 1 < borders.size(); ++i) {
      split.Update(grad2, borders[i], borders[i + 1], no_decay, ScalarsOfStep(2), 1 + trial % 3);
    }
    EXPECT_TRUE(split.SameBits(whole));
  }
}

// The master copy takes the values that fp32 parameters would take, whatever the threads and splits. The bf16
// parameters are the master copy rounded, whatever they were before.
TEST(AdamWTest, BFloat16ParametersAreTheirMasterRounded) {
  const std::vector<ElementSpan> no_decay = {{1, 2}, {17, 40}, {4000, 6000}};
  for (const int64_t n : {1, 3, 65, 20000}) {
    State want(n), got(n);
    Bf16Tensor rounded(n);
    std::mt19937 random(18);
    for (int64_t t = 1; t <= 3; ++t) {
      const TestTensor grad(n, random);
      want.Update(grad, 0, n, no_decay, ScalarsOfStep(t));
      const int64_t cut = n / static_cast<int64_t>(t + 1);
      got.Update(grad, cut, n, no_decay, ScalarsOfStep(t), static_cast<int>(t), &rounded);
      got.Update(grad, 0, cut, no_decay, ScalarsOfStep(t), 4, &rounded);
    }
    EXPECT_TRUE(got.SameBits(want));
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(rounded.data()[i].bits, ToBFloat16(want.p[i]).bits) << i;
    AddToOpTable({"adamw bf16", absl::StrCat("n=", n, " steps=3"), ScaledError(rounded, want.p.ToDouble()), {}});
  }
}

// A bf16 gradient acts as the fp32 values that it stands for, beside the parameters or in their place.
TEST(AdamWTest, BFloat16GradientsMayLieInTheParametersPlace) {
  const std::vector<ElementSpan> no_decay = {{1, 2}, {17, 40}, {4000, 6000}};
  for (const int64_t n : {1, 3, 65, 20000}) {
    State want(n), beside(n), in_place(n);
    Bf16Tensor want_rounded(n), rounded(n), place(n);
    std::mt19937 random(20);
    for (int64_t t = 1; t <= 3; ++t) {
      const Bf16Tensor grad(n, random);
      TestTensor wide(n);
      for (int64_t i = 0; i < n; ++i) wide[i] = grad[i];
      want.Update(wide, 0, n, no_decay, ScalarsOfStep(t), 1, &want_rounded);
      beside.UpdateWith(grad, 0, n, no_decay, ScalarsOfStep(t), 1, &rounded);
      place.CopyFrom(grad);
      in_place.UpdateWith(place, 0, n, no_decay, ScalarsOfStep(t), static_cast<int>(t), &place);
    }
    EXPECT_TRUE(beside.SameBits(want) && rounded.SameBits(want_rounded)) << n;
    EXPECT_TRUE(in_place.SameBits(want) && place.SameBits(want_rounded)) << n;
  }
}

TEST(AdamWTest, BFloat16ParametersShowANanGradient) {
  State state(100);
  Bf16Tensor rounded(100);
  std::mt19937 random(19);
  TestTensor grad(100, random);
  grad[97] = std::numeric_limits<float>::quiet_NaN();
  state.Update(grad, 0, 100, {}, ScalarsOfStep(1), 1, &rounded);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(std::isnan(rounded[i]), i == 97) << i;
}

}  // namespace
}  // namespace angel_ptm
