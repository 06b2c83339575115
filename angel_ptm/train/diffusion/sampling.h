// From noise to samples: runs the steps of samplers.h one after the other for a batch of samples side by side.
#ifndef ANGEL_PTM_TRAIN_DIFFUSION_SAMPLING_H_
#define ANGEL_PTM_TRAIN_DIFFUSION_SAMPLING_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/train/diffusion/samplers.h"
#include "angel_ptm/train/diffusion/schedule.h"

namespace angel_ptm {

// kEuler is for flows only, the others are for discrete diffusion only.
enum class SamplingMethod { kEuler, kDdpm, kDdim, kDpmSolver };
// "euler", "ddpm", "ddim", "dpm-solver".
const char* Name(SamplingMethod method);
std::optional<SamplingMethod> FindSamplingMethod(std::string_view name);
// The method if the user chooses none.
inline SamplingMethod DefaultMethod(Prediction prediction) {
  return prediction == Prediction::kFlow ? SamplingMethod::kEuler : SamplingMethod::kDpmSolver;
}
inline bool Suits(SamplingMethod method, Prediction prediction) {
  return (method == SamplingMethod::kEuler) == (prediction == Prediction::kFlow);
}

struct SamplingOptions {
  Prediction prediction = Prediction::kFlow;
  SamplingMethod method = SamplingMethod::kEuler;  // must suit the prediction
  int64_t steps = 30;                              // 1 to kDiffusionSteps
  uint64_t seed = 1;                               // of the noise
  double flow_shift = 1;                           // for flows
  double beta_start = 0.00085, beta_end = 0.02;    // for the others
  bool learned_variance = false;                   // the model outputs its variance; only kDdpm uses it
};

// Buffers are made once; `Run` allocates nothing.
class SamplingLoop {
 public:
  // `rows` samples side by side, of `elements` elements each.
  SamplingLoop(const SamplingOptions& options, int64_t rows, int64_t elements);

  // Fills output(), and variance() unless it is empty, with the model's outputs for x() at a time of 0 to
  // kDiffusionSteps, after guidance.
  using Predict = absl::FunctionRef<absl::Status(double time)>;
  // Makes sample number samples[r] in row r of x(), with noise from seeds[r], or from options.seed if `seeds` is empty.
  // The result is a function of (options, seed, number, predictions). Errors: those of `predict`.
  absl::Status Run(std::span<const int64_t> samples, Predict predict, std::span<const uint64_t> seeds = {});

  std::span<float> x() { return x_; }                // [rows, elements]
  std::span<float> output() { return output_; }      // likewise
  std::span<float> variance() { return variance_; }  // likewise, or empty: log-variance fractions (samplers.h)

 private:
  absl::Status RunFlow(Predict predict);
  absl::Status RunDiffusion(std::span<const int64_t> samples, std::span<const uint64_t> seeds, Predict predict);
  uint64_t SeedOf(std::span<const uint64_t> seeds, size_t row) const {
    return seeds.empty() ? options_.seed : seeds[row];
  }
  std::span<float> Row(std::vector<float>& all, size_t row) const {
    return std::span(all).subspan(row * elements_, elements_);
  }

  const SamplingOptions options_;
  const size_t rows_, elements_;
  const DiffusionSchedule schedule_;
  const std::vector<double> flow_times_;
  const std::vector<TimeStep> steps_;
  std::vector<float> x_, output_, variance_, previous_, noise_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DIFFUSION_SAMPLING_H_
