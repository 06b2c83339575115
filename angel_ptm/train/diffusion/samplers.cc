#include "angel_ptm/train/diffusion/samplers.h"

#include <algorithm>
#include <cmath>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Computes the clean image element by element.
class Denoiser {
 public:
  Denoiser(Prediction prediction, Mix mix, double clip)
      : of_noisy_(static_cast<float>(CleanCoefficients(prediction, mix).of_noisy)),
        of_output_(static_cast<float>(CleanCoefficients(prediction, mix).of_output)),
        clip_(static_cast<float>(clip)) {}

  float operator()(float noisy, float output) const {
    const float clean = of_noisy_ * noisy + of_output_ * output;
    return clip_ > 0 ? std::clamp(clean, -clip_, clip_) : clean;
  }

 private:
  float of_noisy_, of_output_, clip_;
};

// The log of signal over noise.
double Lambda(Mix mix) { return std::log(mix.signal / mix.noise); }

void CheckLengths(std::span<const float> x, std::span<const float> other, const char* name) {
  APTM_CHECK(other.size() == x.size(), name, ": ", other.size(), " for ", x.size());
}

}  // namespace

void Guide(double scale, std::span<const float> with, std::span<const float> without, std::span<float> guided) {
  CheckLengths(guided, with, "with");
  CheckLengths(guided, without, "without");
  const float s = static_cast<float>(scale);
  for (size_t i = 0; i < guided.size(); ++i) guided[i] = without[i] + s * (with[i] - without[i]);
}

std::vector<int64_t> SpacedTimes(int64_t schedule_steps, int64_t count, TimeSpacing spacing, int64_t offset) {
  APTM_CHECK(count >= 1 && count <= schedule_steps, count, " of ", schedule_steps);
  std::vector<int64_t> times(static_cast<size_t>(count));
  const double steps = static_cast<double>(schedule_steps), n = static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) {
    const double k = static_cast<double>(i);
    double time = 0;
    switch (spacing) {
      case TimeSpacing::kLeading:
        time = static_cast<double>((count - 1 - i) * (schedule_steps / count) + offset);
        break;
      case TimeSpacing::kLinspace:
        time = count == 1 ? 0 : std::nearbyint((n - 1 - k) * ((steps - 1) / (n - 1)));
        break;
      case TimeSpacing::kTrailing:
        time = std::nearbyint(steps - k * (steps / n)) - 1;
        break;
    }
    times[static_cast<size_t>(i)] = std::min(schedule_steps - 1, static_cast<int64_t>(time));
  }
  return times;
}

std::vector<TimeStep> TimeSteps(std::span<const int64_t> times) {
  std::vector<TimeStep> steps;
  for (size_t i = 0; i < times.size(); ++i) {
    steps.push_back({.t = times[i], .next = i + 1 < times.size() ? times[i + 1] : -1});
    APTM_CHECK(steps.back().next < steps.back().t, "times should fall, got ", times[i], " and then ",
               steps.back().next);
  }
  return steps;
}

void DdimStep(const DiffusionSchedule& schedule, const DdimOptions& options, TimeStep step,
              std::span<const float> output, std::span<const float> noise, std::span<float> x) {
  CheckLengths(x, output, "output");
  const Mix mix = schedule.At(step.t);
  const double here = schedule.alpha_bar(step.t), next = schedule.alpha_bar(step.next);
  const double deviation = options.eta * std::sqrt((1 - next) / (1 - here) * (1 - here / next));
  if (deviation > 0) CheckLengths(x, noise, "noise");
  const Denoiser denoiser(options.prediction, mix, options.clip);
  const float signal = static_cast<float>(mix.signal), inverse_noise = static_cast<float>(1 / mix.noise);
  const float next_signal = static_cast<float>(std::sqrt(next));
  const float direction = static_cast<float>(std::sqrt(std::max(0.0, 1 - next - deviation * deviation)));
  const float added = static_cast<float>(deviation);
  for (size_t i = 0; i < x.size(); ++i) {
    const float clean = denoiser(x[i], output[i]);
    // A predicted eps is used as it is. For v, or if the image was clamped, eps follows from the image.
    const bool told = options.prediction == Prediction::kEpsilon && options.clip <= 0;
    const float eps = told ? output[i] : (x[i] - signal * clean) * inverse_noise;
    x[i] = next_signal * clean + direction * eps;
    if (added > 0) x[i] += added * noise[i];
  }
}

void DdpmStep(const DiffusionSchedule& schedule, const DdpmOptions& options, TimeStep step,
              std::span<const float> output, std::span<const float> log_variance_fraction, std::span<const float> noise,
              std::span<float> x) {
  CheckLengths(x, output, "output");
  const bool learned = !log_variance_fraction.empty(), last = step.next < 0;
  if (learned) CheckLengths(x, log_variance_fraction, "log variance fraction");
  if (!last) CheckLengths(x, noise, "noise");
  const double here = schedule.alpha_bar(step.t), next = schedule.alpha_bar(step.next);
  const double alpha = here / next, beta = 1 - alpha;
  const Denoiser denoiser(options.prediction, schedule.At(step.t), options.clip);
  const float of_clean = static_cast<float>(std::sqrt(next) * beta / (1 - here));
  const float of_noisy = static_cast<float>(std::sqrt(alpha) * (1 - next) / (1 - here));
  const double log_least = last ? 0 : std::log((1 - next) / (1 - here) * beta), log_most = std::log(beta);
  const float fixed = static_cast<float>(std::exp(0.5 * log_least));
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = of_clean * denoiser(x[i], output[i]) + of_noisy * x[i];
    if (last) continue;
    if (learned) {
      const double fraction = (double{log_variance_fraction[i]} + 1) / 2;
      x[i] += static_cast<float>(std::exp(0.5 * (fraction * log_most + (1 - fraction) * log_least))) * noise[i];
    } else {
      x[i] += fixed * noise[i];
    }
  }
}

void DpmSolverStep(const DiffusionSchedule& schedule, const DpmSolverOptions& options, std::span<const TimeStep> steps,
                   int64_t index, std::span<const float> output, std::span<float> previous, std::span<float> x) {
  CheckLengths(x, output, "output");
  CheckLengths(x, previous, "previous");
  const TimeStep step = steps[static_cast<size_t>(index)];
  const Mix here = schedule.At(step.t), next = schedule.At(step.next);
  const bool last = step.next < 0;
  const Denoiser denoiser(options.prediction, here, options.clip);
  // x' = of_x * x + of_clean * (clean + half / r * (clean - previous)), where r is the ratio of the previous step to
  // this one.
  const double h = last ? 0 : Lambda(next) - Lambda(here);
  const float of_x = static_cast<float>(next.noise / here.noise);
  const float of_clean = static_cast<float>(last ? 1 : -next.signal * std::expm1(-h));
  double slope = 0;
  if (index > 0 && !last) {
    slope = 0.5 * h / (Lambda(here) - Lambda(schedule.At(steps[static_cast<size_t>(index - 1)].t)));
  }
  const float of_difference = static_cast<float>(slope);
  for (size_t i = 0; i < x.size(); ++i) {
    const float clean = denoiser(x[i], output[i]);
    const float ahead = of_difference == 0 ? clean : clean + of_difference * (clean - previous[i]);
    x[i] = of_x * x[i] + of_clean * ahead;
    previous[i] = clean;
  }
}

std::vector<double> FlowTimes(int64_t count, double shift) {
  APTM_CHECK(count >= 1 && shift > 0, count, " steps, shift ", shift);
  std::vector<double> times;
  for (int64_t i = 0; i <= count; ++i) {
    times.push_back(ShiftFlowTime(static_cast<double>(count - i) / static_cast<double>(count), shift));
  }
  return times;
}

void FlowEulerStep(double t, double next, std::span<const float> output, std::span<float> x) {
  CheckLengths(x, output, "output");
  const float length = static_cast<float>(next - t);
  for (size_t i = 0; i < x.size(); ++i) x[i] += length * output[i];
}

}  // namespace angel_ptm
