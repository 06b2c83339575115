#include "angel_ptm/train/tasks/batch_sampler.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {

BatchOptions SamplingBatchFromConfig(const TrainConfig& config, const SamplingOptions& sampling, int64_t count) {
  BatchOptions options{.sampling = sampling, .guidance = config.sampling().guidance()};
  options.sampling.seed = config.seed();
  const int64_t rows = config.batch().micro_batch_sequences() / (options.guided() ? 2 : 1);
  options.batch = std::clamp<int64_t>(rows, 1, std::max<int64_t>(1, count));
  return options;
}

SamplingFacts FactsOfSamples(const TrainConfig& config, int64_t step, const BatchOptions& options) {
  return {.step = step,
          .weights = config.optimizer().ema_decay() > 0 ? "ema" : "last",
          .sampler = Name(options.sampling.method),
          .steps = options.sampling.steps,
          .guidance = options.guidance,
          .seed = options.sampling.seed};
}

absl::Status CheckBatchOptions(const BatchOptions& options, const std::string& prefix) {
  const SamplingOptions& sampling = options.sampling;
  if (sampling.steps < 1 || sampling.steps > kDiffusionSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "steps: wanted 1 to ", kDiffusionSteps, ", got ", sampling.steps));
  }
  if (!(options.guidance >= 0 && options.guidance <= kGuidanceMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "guidance: wanted 0 to ", kGuidanceMax, ", got ", options.guidance));
  }
  if (Suits(sampling.method, sampling.prediction)) return absl::OkStatus();
  const bool flow = sampling.prediction == Prediction::kFlow;
  return absl::InvalidArgumentError(absl::StrCat(prefix, "sampler: the model predicts ", flow ? "a flow" : "no flow",
                                                 ", wanted ", flow ? "euler" : "ddpm, ddim or dpm-solver", ", got ",
                                                 Name(sampling.method)));
}

BatchSampler::BatchSampler(const BatchOptions& options, const PatchGrid& noisy, const PatchGrid& prediction,
                           std::vector<Denoiser> denoisers, Conditions& conditions)
    : options_(options),
      noisy_grid_(noisy),
      prediction_grid_(prediction),
      denoisers_(std::move(denoisers)),
      conditions_(conditions),
      loop_(options.sampling, options.batch, noisy.elements()),
      noise_numbers_(static_cast<size_t>(options.batch)),
      noise_seeds_(noise_numbers_.size()) {
  const auto rows = static_cast<size_t>(options.rows());
  noisy_.resize(rows * static_cast<size_t>(noisy.elements()));
  prediction_.resize(rows * static_cast<size_t>(prediction.elements()));
  planes_.resize(static_cast<size_t>(prediction.elements()));
  away_.resize(options.guided() ? static_cast<size_t>(noisy.elements()) : 0);
  const Graph& graph = *denoisers_[0].graph;
  if (graph.tensor(graph.FindTensor("prediction")).dtype == DType::kBFloat16) narrow_.resize(prediction_.size());
}

absl::Status BatchSampler::Make(std::span<const int64_t> samples) {
  APTM_CHECK(static_cast<int64_t>(samples.size()) == options_.batch, samples.size(), " of ", options_.batch);
  for (int64_t i = 0; i < options_.batch; ++i) {
    RETURN_IF_ERROR(conditions_.SetRow(i, samples[static_cast<size_t>(i)]));
    if (options_.guided()) {
      RETURN_IF_ERROR(conditions_.SetAway(options_.batch + i, samples[static_cast<size_t>(i)]));
    }
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto sample = static_cast<size_t>(samples[i]);
    const SampleNoise noise =
        options_.noise.empty() ? SampleNoise{options_.sampling.seed, samples[i]} : options_.noise[sample];
    noise_numbers_[i] = noise.number;
    noise_seeds_[i] = noise.seed;
  }
  return loop_.Run(
      noise_numbers_, [this](double time) { return Predict(time); }, noise_seeds_);
}

absl::Status BatchSampler::MakeAll(int64_t count,
                                   absl::FunctionRef<void(int64_t number, std::span<const float> sample)> take,
                                   const ReportProgress& progress) {
  const int64_t batches = (count + options_.batch - 1) / options_.batch, all = batches * options_.sampling.steps;
  const std::string what = absl::StrCat("steps of ", Counted(count, "sample"));
  steps_done_ = 0;
  after_step_ = [&] { TellProgress(progress, what, ++steps_done_, all); };
  const absl::Cleanup forget = [this] { after_step_ = nullptr; };
  TellProgress(progress, what, 0, all);
  const auto elements = static_cast<size_t>(noisy_grid_.elements());
  std::vector<int64_t> numbers(static_cast<size_t>(options_.batch));
  for (int64_t first = 0; first < count; first += options_.batch) {
    // Rows after the last sample repeat it.
    for (int64_t row = 0; row < options_.batch; ++row) numbers[row] = std::min(first + row, count - 1);
    RETURN_IF_ERROR(Make(numbers));
    for (int64_t row = 0; row < std::min(options_.batch, count - first); ++row) {
      take(first + row, samples().subspan(static_cast<size_t>(row) * elements, elements));
    }
  }
  return absl::OkStatus();
}

std::span<const float> BatchSampler::Planes(int64_t row) {
  const auto elements = static_cast<size_t>(prediction_grid_.elements());
  FromPatches(prediction_grid_, std::span(prediction_).subspan(static_cast<size_t>(row) * elements, elements), planes_);
  return planes_;
}

absl::Status BatchSampler::Predict(double time) {
  const auto elements = static_cast<size_t>(noisy_grid_.elements());
  for (int64_t row = 0; row < options_.rows(); ++row) {
    ToPatches(noisy_grid_, loop_.x().subspan(static_cast<size_t>(row % options_.batch) * elements, elements),
              std::span(noisy_).subspan(static_cast<size_t>(row) * elements, elements));
  }
  const auto expert = std::find_if(denoisers_.begin() + 1, denoisers_.end(),
                                   [&](const Denoiser& d) { return d.from <= time && time < d.to; });
  const Denoiser& denoiser = expert == denoisers_.end() ? denoisers_[0] : *expert;
  conditions_.Write(time, *denoiser.graph, *denoiser.executor);
  RETURN_IF_ERROR(Play(denoiser));
  if (after_step_) after_step_();
  for (int64_t i = 0; i < options_.batch; ++i) {
    const size_t at = static_cast<size_t>(i) * elements;
    const std::span<float> output = loop_.output().subspan(at, elements);
    if (options_.guided()) std::ranges::copy(Planes(options_.batch + i).first(elements), away_.begin());
    const std::span<const float> planes = Planes(i);
    std::ranges::copy(planes.first(elements), output.begin());
    if (options_.guided()) Guide(options_.guidance, output, away_, output);
    // Guidance changes the mean, not the variance.
    if (!loop_.variance().empty()) std::ranges::copy(planes.subspan(elements), loop_.variance().subspan(at).begin());
  }
  return absl::OkStatus();
}

absl::Status BatchSampler::Play(const Denoiser& denoiser) {
  const Graph* const graph = denoiser.graph;
  Executor* const executor = denoiser.executor;
  executor->WriteInput(graph->FindTensor("noisy"), noisy_.data());
  RETURN_IF_ERROR(executor->RunMicroStep(0));
  const TensorId prediction = graph->FindTensor("prediction");
  if (narrow_.empty()) {
    executor->ReadOutput(prediction, prediction_.data());
  } else {
    executor->ReadOutput(prediction, narrow_.data());
    Widen(prediction_, narrow_);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
