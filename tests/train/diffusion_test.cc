// Diffusion against closed forms. For data N(m, s^2) the best denoiser is known, the deterministic samplers follow the
// line x_t = signal m + sqrt(signal^2 s^2 + noise^2) z, and every step is an affine map whose mean and variance can be
// followed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/diffusion/samplers.h"
#include "angel_ptm/train/diffusion/sampling.h"
#include "angel_ptm/train/diffusion/schedule.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

constexpr double kMean = 0.7, kDeviation = 0.3;

DiffusionSchedule Schedule() { return DiffusionSchedule::ScaledLinear(1000, 0.00085, 0.02); }

// The standard deviation of x_t.
double Deviation(Mix mix) { return std::hypot(mix.signal * kDeviation, mix.noise); }

// What the best model puts out at x.
float BestOutput(Prediction prediction, Mix mix, double x) {
  const double eps = mix.noise * (x - mix.signal * kMean) / (Deviation(mix) * Deviation(mix));
  const double clean = (x - mix.noise * eps) / mix.signal;
  switch (prediction) {
    case Prediction::kEpsilon:
      return static_cast<float>(eps);
    case Prediction::kVelocity:
      return static_cast<float>(mix.signal * eps - mix.noise * clean);
    case Prediction::kFlow:
      return static_cast<float>(eps - clean);
  }
  return 0;
}

std::vector<float> BestOutputs(Prediction prediction, Mix mix, const std::vector<float>& x) {
  std::vector<float> outputs;
  for (const float value : x) outputs.push_back(BestOutput(prediction, mix, value));
  return outputs;
}

// Starts a deterministic sampler on the line at `start`, for z = -2, 0 and 2, and returns its largest distance from the
// line at `end`.
template <typename Sampler>
double LineError(Mix start, Mix end, const Sampler& sample) {
  const std::array<double, 3> z = {-2, 0, 2};
  std::vector<float> x;
  for (const double value : z) x.push_back(static_cast<float>(start.signal * kMean + Deviation(start) * value));
  sample(&x);
  double error = 0;
  for (size_t i = 0; i < z.size(); ++i) {
    error = std::max(error, std::abs(x[i] - (end.signal * kMean + Deviation(end) * z[i])));
  }
  return error;
}

double DdimError(Prediction prediction, const std::vector<TimeStep>& steps) {
  const DiffusionSchedule schedule = Schedule();
  return LineError(schedule.At(steps[0].t), schedule.At(steps.back().next), [&](std::vector<float>* x) {
    for (const TimeStep& step : steps) {
      const auto output = BestOutputs(prediction, schedule.At(step.t), *x);
      DdimStep(schedule, {.prediction = prediction}, step, output, {}, *x);
    }
  });
}

double DpmError(Prediction prediction, const std::vector<TimeStep>& steps) {
  const DiffusionSchedule schedule = Schedule();
  return LineError(schedule.At(steps[0].t), schedule.At(steps.back().next), [&](std::vector<float>* x) {
    std::vector<float> previous(x->size());
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto output = BestOutputs(prediction, schedule.At(steps[i].t), *x);
      DpmSolverStep(schedule, {.prediction = prediction}, steps, static_cast<int64_t>(i), output, previous, *x);
    }
  });
}

std::vector<TimeStep> AllSteps() { return TimeSteps(SpacedTimes(1000, 1000, TimeSpacing::kTrailing)); }

// Steps of `length`, a divisor of 900, from 999 to 99. The step to the clean image is omitted, because it is of first
// order in every method.
std::vector<TimeStep> StepsOf(int64_t length) {
  std::vector<TimeStep> steps;
  for (int64_t t = 999; t > 99; t -= length) steps.push_back({.t = t, .next = t - length});
  return steps;
}

double FlowError(int64_t count, double shift) {
  const std::vector<double> times = FlowTimes(count, shift);
  return LineError(FlowMix(1), FlowMix(0), [&](std::vector<float>* x) {
    for (int64_t i = 0; i < count; ++i) {
      // At t = 1 nothing is known of the image, and BestOutput would divide by a signal of 0; the best guess is its
      // mean.
      std::vector<float> output;
      for (const float value : *x) {
        output.push_back(times[i] == 1 ? value - static_cast<float>(kMean)
                                       : BestOutput(Prediction::kFlow, FlowMix(times[i]), value));
      }
      FlowEulerStep(times[i], times[i + 1], output, *x);
    }
  });
}

TEST(Samplers, DeterministicOnesFollowTheExactLine) {
  for (const Prediction prediction : {Prediction::kEpsilon, Prediction::kVelocity}) {
    EXPECT_LT(DdimError(prediction, AllSteps()), 8e-3);
    EXPECT_LT(DpmError(prediction, AllSteps()), 4e-3);
    EXPECT_LT(DpmError(prediction, StepsOf(15)), 1e-3);
  }
  EXPECT_LT(FlowError(1000, 1), 2e-3);
  EXPECT_LT(FlowError(1000, 3), 5e-3);
}

// If the error falls with the number of steps at another power than the method's, or to another value, a coefficient is
// wrong.
TEST(Samplers, ErrorsFallAtTheOrderOfTheMethod) {
  const auto ddim = [](int64_t length) { return DdimError(Prediction::kVelocity, StepsOf(length)); };
  const auto dpm = [](int64_t length) { return DpmError(Prediction::kVelocity, StepsOf(length)); };
  EXPECT_NEAR(ddim(30) / ddim(10), 3, 0.3);
  EXPECT_NEAR(FlowError(100, 1) / FlowError(200, 1), 2, 0.2);
  EXPECT_NEAR(dpm(30) / dpm(10), 9, 1.5);
  EXPECT_LT(dpm(30), ddim(30) / 10);
}

// Mean and variance of an ancestral sampler's result, from its steps' affine maps.
struct Moments {
  double mean, variance;
};
template <typename Step>
Moments Follow(const DiffusionSchedule& schedule, const std::vector<TimeStep>& steps, const Step& take) {
  const Mix start = schedule.At(steps[0].t);
  Moments moments = {start.signal * kMean, Deviation(start) * Deviation(start)};
  for (const TimeStep& step : steps) {
    std::vector<float> x = {0, 1, 0};
    const std::vector<float> noise = {0, 0, 1};
    take(step, BestOutputs(Prediction::kVelocity, schedule.At(step.t), x), noise, &x);
    const double slope = x[1] - x[0], spread = x[2] - x[0];
    moments = {slope * moments.mean + x[0], slope * slope * moments.variance + spread * spread};
  }
  return moments;
}

TEST(Samplers, AncestralOnesReachMeanAndVariance) {
  const DiffusionSchedule schedule = Schedule();
  const auto steps = AllSteps();
  const std::vector<float> least(3, -1), most(3, 1);
  for (const auto* fraction : {&least, &most}) {
    const Moments moments = Follow(schedule, steps, [&](TimeStep step, const auto& output, const auto& noise, auto* x) {
      DdpmStep(schedule, {.prediction = Prediction::kVelocity}, step, output, *fraction, noise, *x);
    });
    EXPECT_NEAR(moments.mean, kMean, 2e-3);
    EXPECT_NEAR(moments.variance, kDeviation * kDeviation, 0.05 * kDeviation * kDeviation);
  }
}

TEST(Samplers, DdimOfEtaOneIsDdpm) {
  const DiffusionSchedule schedule = Schedule();
  const std::vector<float> output = {0.3F, -1.1F}, noise = {0.8F, -0.4F};
  for (const TimeStep step : {TimeStep{.t = 700, .next = 650}, TimeStep{.t = 0, .next = -1}}) {
    std::vector<float> ddim = {0.5F, -0.2F}, ddpm = ddim, learned = ddim;
    DdimStep(schedule, {.prediction = Prediction::kVelocity, .eta = 1}, step, output, noise, ddim);
    DdpmStep(schedule, {.prediction = Prediction::kVelocity}, step, output, {}, noise, ddpm);
    DdpmStep(schedule, {.prediction = Prediction::kVelocity}, step, output, std::vector<float>{-1, -1}, noise, learned);
    for (size_t i = 0; i < ddim.size(); ++i) {
      EXPECT_NEAR(ddim[i], ddpm[i], 2e-6);
      EXPECT_NEAR(learned[i], ddpm[i], 2e-6);
    }
  }
}

TEST(Samplers, ClipBoundsThePredictedImage) {
  const DiffusionSchedule schedule = Schedule();
  const TimeStep step = {.t = 400, .next = -1};
  for (const Prediction prediction : {Prediction::kEpsilon, Prediction::kVelocity}) {
    std::vector<float> ddim = {9, -9}, ddpm = ddim, dpm = ddim, previous(2);
    const std::vector<float> output = {-9, 9};
    DdimStep(schedule, {.prediction = prediction, .clip = 1}, step, output, {}, ddim);
    DdpmStep(schedule, {.prediction = prediction, .clip = 1}, step, output, {}, {}, ddpm);
    DpmSolverStep(schedule, {.prediction = prediction, .clip = 1}, std::span(&step, 1), 0, output, previous, dpm);
    EXPECT_THAT(ddim, ElementsAre(1, -1));
    EXPECT_THAT(ddpm, ElementsAre(1, -1));
    EXPECT_THAT(dpm, ElementsAre(1, -1));
  }
}

SamplingOptions LoopOptions(SamplingMethod method, int64_t steps, bool learned_variance = false) {
  return {.prediction = method == SamplingMethod::kEuler ? Prediction::kFlow : Prediction::kVelocity,
          .method = method,
          .steps = steps,
          .seed = 3,
          .learned_variance = learned_variance};
}

// Runs the loop for `rows` samples, numbered from `first` on, with the best model. `variance` is the model's output for
// the variance.
std::vector<float> Looped(const SamplingOptions& options, int64_t first, int64_t rows, float variance = -1) {
  constexpr int64_t kElements = 3;
  SamplingLoop loop(options, rows, kElements);
  std::vector<int64_t> numbers;
  for (int64_t row = 0; row < rows; ++row) numbers.push_back(first + row);
  double before = 1e9;
  const absl::Status status = loop.Run(numbers, [&](double time) {
    EXPECT_LT(time, before);
    before = time;
    const bool flow = options.prediction == Prediction::kFlow;
    const Mix mix = flow ? FlowMix(time / kDiffusionSteps) : Schedule().At(static_cast<int64_t>(time));
    for (size_t i = 0; i < loop.x().size(); ++i) {
      loop.output()[i] = flow && time == kDiffusionSteps ? loop.x()[i] - static_cast<float>(kMean)
                                                         : BestOutput(options.prediction, mix, loop.x()[i]);
    }
    std::fill(loop.variance().begin(), loop.variance().end(), variance);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return {loop.x().begin(), loop.x().end()};
}

TEST(SamplingLoop, EveryMethodReachesTheDataFromNoise) {
  for (const auto& [method, steps] :
       {std::pair(SamplingMethod::kEuler, 60), std::pair(SamplingMethod::kDdpm, 200),
        std::pair(SamplingMethod::kDdim, 60), std::pair(SamplingMethod::kDpmSolver, 100)}) {
    SCOPED_TRACE(Name(method));
    const std::vector<float> made = Looped(LoopOptions(method, steps), 0, 2000);
    double mean = 0, square = 0;
    for (const double value : made) {
      mean += value / static_cast<double>(made.size());
      square += value * value / static_cast<double>(made.size());
    }
    EXPECT_NEAR(mean, kMean, 0.02);
    EXPECT_NEAR(std::sqrt(square - mean * mean), kDeviation, 0.03);
  }
}

// A sample depends on its number only, not on the other samples of its batch or on its row.
TEST(SamplingLoop, ASampleIsAFunctionOfItsNumber) {
  for (const SamplingMethod method : {SamplingMethod::kEuler, SamplingMethod::kDdpm, SamplingMethod::kDpmSolver}) {
    SCOPED_TRACE(Name(method));
    const SamplingOptions options = LoopOptions(method, 5);
    const std::vector<float> many = Looped(options, 4, 3), one = Looped(options, 5, 1);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), many.begin() + 3));
    EXPECT_NE(std::vector(many.begin(), many.begin() + 3), one);
    SamplingOptions other = options;
    other.seed = 4;
    EXPECT_NE(Looped(other, 5, 1), one);
  }
}

TEST(SamplingLoop, OnlyDdpmAsksForTheVariance) {
  EXPECT_TRUE(SamplingLoop(LoopOptions(SamplingMethod::kDdim, 5, true), 1, 3).variance().empty());
  const std::vector<float> fixed = Looped(LoopOptions(SamplingMethod::kDdpm, 5), 0, 1);
  const auto learned = [](float variance) {
    return Looped(LoopOptions(SamplingMethod::kDdpm, 5, true), 0, 1, variance);
  };
  for (size_t i = 0; i < fixed.size(); ++i) EXPECT_NEAR(learned(-1)[i], fixed[i], 1e-5);
  EXPECT_GT(std::abs(learned(1)[0] - fixed[0]), 1e-2);
}

// One ancestral step from t with x = 0.4. `noise` is 0 for a step without noise.
double Stepped(Prediction prediction, int64_t t, float output, float noise, std::vector<float> fraction) {
  std::vector<float> x = {0.4f};
  const std::array<float, 1> outputs = {output}, noises = {noise};
  DdpmStep(Schedule(), {.prediction = prediction}, {.t = t, .next = t - 1}, outputs, fraction, noises, x);
  return double{x[0]};
}

// Training's bounds for a step match what the sampler does in it.
TEST(Schedule, BoundsAreOfTheSamplersSteps) {
  for (const Prediction prediction : {Prediction::kEpsilon, Prediction::kVelocity}) {
    for (const int64_t t : {0, 1, 2, 40, 500, 999}) {
      SCOPED_TRACE(t);
      const StepBound bound = BoundAt(Schedule(), prediction, t);
      const double mean = Stepped(prediction, t, 0.5f, 0, {});
      EXPECT_NEAR(Stepped(prediction, t, 3.5f, 0, {}) - mean, 3 * bound.of_error, 3e-6);
      EXPECT_EQ(bound.decoded, t == 0);
      if (bound.decoded) {
        EXPECT_EQ(bound.log_least, BoundAt(Schedule(), prediction, 1).log_least);
        EXPECT_NEAR(bound.log_least + bound.log_range, std::log(0.00085), 1e-12);
        continue;
      }
      for (const float v : {-1.0f, -0.3f, 1.0f}) {
        const double deviation = std::exp(0.5 * (bound.log_least + 0.5 * (double{v} + 1) * bound.log_range));
        EXPECT_NEAR((Stepped(prediction, t, 0.5f, 8, {v}) - mean) / (8 * deviation), 1, 1e-4) << v;
      }
      EXPECT_NEAR((Stepped(prediction, t, 0.5f, 8, {}) - mean) / (8 * std::exp(0.5 * bound.log_least)), 1, 1e-4);
    }
  }
}

TEST(SamplingLoop, MethodsHaveNames) {
  for (const SamplingMethod method :
       {SamplingMethod::kEuler, SamplingMethod::kDdpm, SamplingMethod::kDdim, SamplingMethod::kDpmSolver}) {
    EXPECT_EQ(FindSamplingMethod(Name(method)), method);
  }
  EXPECT_EQ(FindSamplingMethod("heun"), std::nullopt);
}

TEST(Samplers, TimesAreThoseOfDiffusers) {
  EXPECT_THAT(SpacedTimes(1000, 4, TimeSpacing::kLeading), ElementsAre(750, 500, 250, 0));
  EXPECT_THAT(SpacedTimes(1000, 4, TimeSpacing::kLeading, 1), ElementsAre(751, 501, 251, 1));
  EXPECT_THAT(SpacedTimes(1000, 4, TimeSpacing::kLinspace), ElementsAre(999, 666, 333, 0));
  EXPECT_THAT(SpacedTimes(1000, 3, TimeSpacing::kTrailing), ElementsAre(999, 666, 332));
  EXPECT_THAT(SpacedTimes(1000, 1, TimeSpacing::kTrailing), ElementsAre(999));
  EXPECT_DEATH(TimeSteps(std::vector<int64_t>{5, 5}), "times should fall");
  EXPECT_THAT(FlowTimes(2, 3), ElementsAre(1, 0.75, 0));
}

TEST(Samplers, GuidanceExtrapolates) {
  std::vector<float> with = {3, -1};
  const std::vector<float> without = {1, 1};
  Guide(2, with, without, with);
  EXPECT_THAT(with, ElementsAre(5, -3));
}

TEST(Schedule, BetasAreLinearInTheirRoot) {
  const DiffusionSchedule schedule = DiffusionSchedule::ScaledLinear(3, 0.01, 0.25);
  EXPECT_DOUBLE_EQ(schedule.beta(0), 0.01);
  EXPECT_DOUBLE_EQ(schedule.beta(1), 0.3 * 0.3);
  EXPECT_DOUBLE_EQ(schedule.beta(2), 0.25);
  EXPECT_DOUBLE_EQ(schedule.alpha_bar(2), 0.99 * 0.91 * 0.75);
  EXPECT_DOUBLE_EQ(schedule.alpha_bar(-1), 1);
  EXPECT_NEAR(schedule.At(0).snr(), 99, 1e-9);
}

TEST(Schedule, AnOutputThatIsRightGivesTheImage) {
  const std::vector<float> clean = {0.4F, -0.9F}, eps = {-1.3F, 0.6F};
  for (const Prediction prediction : {Prediction::kEpsilon, Prediction::kVelocity, Prediction::kFlow}) {
    for (const Mix mix : {Schedule().At(300), FlowMix(0.6)}) {
      std::vector<float> noisy(2), target(2);
      AddNoise(mix, clean, eps, noisy);
      EXPECT_FLOAT_EQ(noisy[0], static_cast<float>(mix.signal * 0.4 - mix.noise * 1.3));
      PredictionTarget(prediction, mix, clean, eps, target);
      const CleanFromOutput c = CleanCoefficients(prediction, mix);
      for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(c.of_noisy * noisy[i] + c.of_output * target[i], clean[i], 1e-6);
    }
  }
}

TEST(Schedule, WeightsAndShifts) {
  EXPECT_DOUBLE_EQ(MinSnrWeight(Prediction::kEpsilon, 20, 5), 0.25);
  EXPECT_DOUBLE_EQ(MinSnrWeight(Prediction::kEpsilon, 2, 5), 1);
  EXPECT_DOUBLE_EQ(MinSnrWeight(Prediction::kVelocity, 19, 5), 0.25);
  EXPECT_DOUBLE_EQ(MinSnrWeight(Prediction::kVelocity, 19, 0), 1);
  EXPECT_DOUBLE_EQ(ShiftFlowTime(0.5, 3), 0.75);
  EXPECT_DOUBLE_EQ(ShiftFlowTime(1, 7), 1);
}

TEST(Noise, IsNormalAndAFunctionOfItsKey) {
  const NoiseKey key = {.seed = 5, .purpose = NoisePurpose::kSamplingStart, .sample = int64_t{1} << 40, .stream = 2};
  std::vector<float> all(40'002);
  FillNormal(key, all);
  std::array<double, 4> moments = {};
  for (const double x : all) {
    for (int k = 0; k < 4; ++k) moments[k] += std::pow(x, k + 1) / static_cast<double>(all.size());
  }
  EXPECT_NEAR(moments[0], 0, 0.02);
  EXPECT_NEAR(moments[1], 1, 0.03);
  EXPECT_NEAR(moments[2], 0, 0.08);
  EXPECT_NEAR(moments[3], 3, 0.2);
  std::vector<float> few(7);
  FillNormal(key, few);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), all.begin()));
  std::vector<NoiseKey> others(6, key);
  others[0].seed += uint64_t{1} << 33;
  others[1].purpose = NoisePurpose::kSamplingStep;
  others[2].sample += 1;
  others[3].sample -= int64_t{1} << 40;
  others[4].stream = 3;
  others[5].sample += int64_t{1} << 32;
  for (const NoiseKey& other : others) {
    std::vector<float> noise(few.size());
    FillNormal(other, noise);
    for (size_t i = 0; i < few.size(); ++i) EXPECT_NE(noise[i], few[i]);
  }
}

// Resuming a run and sampling a picture again rely on these numbers.
TEST(Noise, IsPinned) {
  std::array<float, 5> noise;
  FillNormal({.seed = 1, .purpose = NoisePurpose::kTrainingNoise, .sample = 3}, noise);
  EXPECT_THAT(noise, Pointwise(FloatNear(2e-6F), {0.436336F, 1.76277F, 0.316288F, -0.207947F, -0.853428F}));
  EXPECT_EQ(TrainingTime(1, 3, 1000), 481);
}

TEST(Noise, OffsetIsOneNumberAChannel) {
  std::vector<float> eps(12, 1);
  AddNoiseOffset(4, 9, 3, 0.1, eps);
  for (int c = 0; c < 3; ++c) {
    EXPECT_NE(eps[4 * c], 1);
    for (int i = 1; i < 4; ++i) EXPECT_EQ(eps[4 * c + i], eps[4 * c]);
  }
  EXPECT_NE(eps[0], eps[4]);
  // The offset has mean zero, the requested deviation, and no correlation with another channel, the plain noise or the
  // next sample.
  constexpr int64_t kSamples = 20'000;
  std::array<double, 5> means = {};
  float before = 0;
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    std::array<float, 2> offset = {}, plain = {};
    AddNoiseOffset(4, sample, 2, 0.1, offset);
    FillNormal({.seed = 4, .purpose = NoisePurpose::kTrainingNoise, .sample = sample}, plain);
    const std::array<float, 5> values = {offset[0], offset[0] * offset[0], offset[0] * offset[1], offset[0] * plain[0],
                                         offset[0] * before};
    for (size_t i = 0; i < values.size(); ++i) means[i] += double{values[i]} / kSamples;
    before = offset[0];
  }
  // Tolerances are four standard deviations of each mean.
  const double root = std::sqrt(double{kSamples});
  EXPECT_NEAR(means[0], 0, 4 * 0.1 / root);
  EXPECT_NEAR(means[1], 0.01, 4 * 0.01 * std::sqrt(2.0) / root);
  EXPECT_NEAR(means[2], 0, 4 * 0.01 / root);
  EXPECT_NEAR(means[3], 0, 4 * 0.1 / root);
  EXPECT_NEAR(means[4], 0, 4 * 0.01 / root);
}

TEST(Noise, TrainingTimesHaveTheirDistributions) {
  constexpr int kSamples = 20'000;
  std::array<int, 4> quarters = {};
  std::array<int, 2> drops = {};
  int both = 0;
  double mean = 0, square = 0;
  for (int i = 0; i < kSamples; ++i) {
    const int64_t t = TrainingTime(1, i, 1000);
    ASSERT_TRUE(t >= 0 && t < 1000);
    ++quarters[static_cast<size_t>(t / 250)];
    const double flow = TrainingFlowTime(1, i, -0.5, 1.5, 3), plain = flow / (3 - 2 * flow);
    const double logit = std::log(plain / (1 - plain));
    mean += logit / kSamples;
    square += logit * logit / kSamples;
    const bool first = DropsCondition(1, i, 0, 0.4), second = DropsCondition(1, i, 1, 0.4);
    drops[0] += first;
    drops[1] += second;
    both += first && second;
  }
  for (const int quarter : quarters) EXPECT_NEAR(quarter, kSamples / 4.0, 250);
  EXPECT_NEAR(mean, -0.5, 0.04);
  EXPECT_NEAR(std::sqrt(square - mean * mean), 1.5, 0.04);
  for (const int dropped : drops) EXPECT_NEAR(dropped, 0.4 * kSamples, 280);
  EXPECT_NEAR(both, 0.16 * kSamples, 220);
}

}  // namespace
}  // namespace angel_ptm
