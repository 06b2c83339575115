#include "angel_ptm/train/diffusion/schedule.h"

#include <algorithm>
#include <cmath>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

DiffusionSchedule DiffusionSchedule::ScaledLinear(int64_t steps, double beta_start, double beta_end) {
  APTM_CHECK(steps >= 2 && 0 < beta_start && beta_start <= beta_end && beta_end < 1, steps, " steps, betas from ",
             beta_start, " to ", beta_end);
  DiffusionSchedule schedule;
  const double first = std::sqrt(beta_start), last = std::sqrt(beta_end);
  double alpha_bar = 1;
  for (int64_t t = 0; t < steps; ++t) {
    const double root = first + static_cast<double>(t) / static_cast<double>(steps - 1) * (last - first);
    alpha_bar *= 1 - root * root;
    schedule.betas_.push_back(root * root);
    schedule.alpha_bars_.push_back(alpha_bar);
  }
  return schedule;
}

Mix DiffusionSchedule::At(int64_t t) const {
  return {.signal = std::sqrt(alpha_bar(t)), .noise = std::sqrt(1 - alpha_bar(t))};
}

double ShiftFlowTime(double t, double shift) { return shift * t / (1 + (shift - 1) * t); }

namespace {

// out = a * x + b * y.
void Combine(double a, std::span<const float> x, double b, std::span<const float> y, std::span<float> out) {
  APTM_CHECK(x.size() == out.size() && y.size() == out.size(), x.size(), " and ", y.size(), " for ", out.size());
  const float of_x = static_cast<float>(a), of_y = static_cast<float>(b);
  for (size_t i = 0; i < out.size(); ++i) out[i] = of_x * x[i] + of_y * y[i];
}

}  // namespace

void AddNoise(Mix mix, std::span<const float> clean, std::span<const float> eps, std::span<float> noisy) {
  Combine(mix.signal, clean, mix.noise, eps, noisy);
}

void PredictionTarget(Prediction prediction, Mix mix, std::span<const float> clean, std::span<const float> eps,
                      std::span<float> target) {
  switch (prediction) {
    case Prediction::kEpsilon:
      return Combine(0, clean, 1, eps, target);
    case Prediction::kVelocity:
      return Combine(-mix.noise, clean, mix.signal, eps, target);
    case Prediction::kFlow:
      return Combine(-1, clean, 1, eps, target);
  }
}

CleanFromOutput CleanCoefficients(Prediction prediction, Mix mix) {
  switch (prediction) {
    case Prediction::kEpsilon:
      return {.of_noisy = 1 / mix.signal, .of_output = -mix.noise / mix.signal};
    case Prediction::kVelocity: {
      // noisy = signal x0 + noise eps and v = signal eps - noise x0, solved for x0 also where their squares do not sum
      // to 1.
      const double squares = mix.signal * mix.signal + mix.noise * mix.noise;
      return {.of_noisy = mix.signal / squares, .of_output = -mix.noise / squares};
    }
    case Prediction::kFlow:
      return {.of_noisy = 1 / (mix.signal + mix.noise), .of_output = -mix.noise / (mix.signal + mix.noise)};
  }
  APTM_CHECK(false, "prediction ", static_cast<int>(prediction));
  return {};
}

StepBound BoundAt(const DiffusionSchedule& schedule, Prediction prediction, int64_t t) {
  const auto posterior = [&](int64_t time) {
    return (1 - schedule.alpha_bar(time - 1)) / (1 - schedule.alpha_bar(time)) * schedule.beta(time);
  };
  const double log_least = std::log(posterior(std::max<int64_t>(1, t)));
  const double of_clean = std::sqrt(schedule.alpha_bar(t - 1)) * schedule.beta(t) / (1 - schedule.alpha_bar(t));
  return {.log_least = log_least,
          .log_range = std::log(schedule.beta(t)) - log_least,
          .of_error = of_clean * CleanCoefficients(prediction, schedule.At(t)).of_output,
          .decoded = t == 0};
}

double MinSnrWeight(Prediction prediction, double snr, double gamma) {
  if (gamma <= 0) return 1;
  return std::min(snr, gamma) / (prediction == Prediction::kVelocity ? snr + 1 : snr);
}

}  // namespace angel_ptm
