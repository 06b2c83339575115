// How noisy a sample is at a time, what the model predicts there, and how its error is weighted. Every process here is
// x_t = signal * x0 + noise * eps: diffusion (Ho et al. 2020) with signal^2 + noise^2 = 1, flow matching (Lipman et al.
// 2023; Liu et al. 2023) with signal + noise = 1.
#ifndef ANGEL_PTM_TRAIN_DIFFUSION_SCHEDULE_H_
#define ANGEL_PTM_TRAIN_DIFFUSION_SCHEDULE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace angel_ptm {

struct Mix {
  double signal = 1;
  double noise = 0;

  double snr() const { return signal * signal / (noise * noise); }
};

// What a model's output stands for.
enum class Prediction {
  kEpsilon,   // eps
  kVelocity,  // v = signal * eps - noise * x0 (Salimans and Ho 2022)
  kFlow,      // d x_t / d t = eps - x0
};

// Steps of a discrete diffusion. Models receive a flow's times 0..1 as 0..kDiffusionSteps.
inline constexpr int64_t kDiffusionSteps = 1000;

// Discrete diffusion times 0..steps-1, from little noise to much.
class DiffusionSchedule {
 public:
  // beta_t = (sqrt(start) + t / (steps - 1) * (sqrt(end) - sqrt(start)))^2: "scaled linear". steps >= 2, 0 < start <=
  // end < 1.
  static DiffusionSchedule ScaledLinear(int64_t steps, double beta_start, double beta_end);

  int64_t steps() const { return static_cast<int64_t>(alpha_bars_.size()); }
  double beta(int64_t t) const { return betas_[static_cast<size_t>(t)]; }
  // Product of 1 - beta up to t; 1 for t = -1, the clean image.
  double alpha_bar(int64_t t) const { return t < 0 ? 1 : alpha_bars_[static_cast<size_t>(t)]; }
  Mix At(int64_t t) const;

 private:
  std::vector<double> betas_, alpha_bars_;
};

// Flow matching: t in 0..1, where 1 is pure noise.
inline Mix FlowMix(double t) { return {.signal = 1 - t, .noise = t}; }
// t' = s t / (1 + (s - 1) t): larger images need more noise to lose the same detail (Esser et al. 2024).
double ShiftFlowTime(double t, double shift);

// noisy = signal * clean + noise * eps. All spans have one length.
void AddNoise(Mix mix, std::span<const float> clean, std::span<const float> eps, std::span<float> noisy);
// What the model should output.
void PredictionTarget(Prediction prediction, Mix mix, std::span<const float> clean, std::span<const float> eps,
                      std::span<float> target);
// The clean image that an output implies: x0 = a * noisy + b * output.
struct CleanFromOutput {
  double of_noisy, of_output;
};
CleanFromOutput CleanCoefficients(Prediction prediction, Mix mix);

// One step's part of the variational bound, for a model that learns its variance (Nichol & Dhariwal 2021). The steps
// are those that DdpmStep (samplers.h) takes between consecutive times.
struct StepBound {
  double log_least = 0;  // log of the posterior's variance; time 0 has none and uses that of time 1
  double log_range = 0;  // from there to the log of beta
  double of_error = 0;   // factor from an error of the output to that of the step's mean
  bool decoded = false;  // the step of time 0, which leads to the image itself
};
StepBound BoundAt(const DiffusionSchedule& schedule, Prediction prediction, int64_t t);

// Weight relative to the plain mean squared error of the prediction: min(SNR, gamma) / SNR for eps (Hunyuan-DiT uses it
// for v, too), min(SNR, gamma) / (SNR + 1) for v (Hang et al. 2023). gamma <= 0: 1.
double MinSnrWeight(Prediction prediction, double snr, double gamma);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DIFFUSION_SCHEDULE_H_
