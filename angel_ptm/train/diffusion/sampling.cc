#include "angel_ptm/train/diffusion/sampling.h"

#include <algorithm>
#include <array>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/train/diffusion/noise.h"

namespace angel_ptm {
namespace {

constexpr std::array<std::pair<SamplingMethod, const char*>, 4> kNames = {{{SamplingMethod::kEuler, "euler"},
                                                                           {SamplingMethod::kDdpm, "ddpm"},
                                                                           {SamplingMethod::kDdim, "ddim"},
                                                                           {SamplingMethod::kDpmSolver, "dpm-solver"}}};

std::vector<TimeStep> StepsOf(const SamplingOptions& options) {
  if (options.method == SamplingMethod::kEuler) return {};
  // Begins at the schedule's last time, the only one at which training has seen almost pure noise.
  return TimeSteps(SpacedTimes(kDiffusionSteps, options.steps, TimeSpacing::kTrailing));
}

}  // namespace

const char* Name(SamplingMethod method) {
  return std::ranges::find(kNames, method, &decltype(kNames)::value_type::first)->second;
}

std::optional<SamplingMethod> FindSamplingMethod(std::string_view name) {
  const auto* const found = std::ranges::find_if(kNames, [&](const auto& named) { return name == named.second; });
  return found == kNames.end() ? std::nullopt : std::optional(found->first);
}

SamplingLoop::SamplingLoop(const SamplingOptions& options, int64_t rows, int64_t elements)
    : options_(options),
      rows_(static_cast<size_t>(rows)),
      elements_(static_cast<size_t>(elements)),
      schedule_(DiffusionSchedule::ScaledLinear(kDiffusionSteps, options.beta_start, options.beta_end)),
      flow_times_(options.method == SamplingMethod::kEuler ? FlowTimes(options.steps, options.flow_shift)
                                                           : std::vector<double>()),
      steps_(StepsOf(options)) {
  APTM_CHECK(Suits(options.method, options.prediction), Name(options.method), " of another prediction");
  for (std::vector<float>* buffer : {&x_, &output_, &previous_, &noise_}) buffer->resize(rows_ * elements_);
  if (options.learned_variance && options.method == SamplingMethod::kDdpm) variance_.resize(x_.size());
}

absl::Status SamplingLoop::Run(std::span<const int64_t> samples, Predict predict, std::span<const uint64_t> seeds) {
  APTM_CHECK(samples.size() == rows_, samples.size(), " samples in ", rows_, " rows");
  APTM_CHECK(seeds.empty() || seeds.size() == rows_, seeds.size(), " seeds for ", rows_, " rows");
  for (size_t row = 0; row < rows_; ++row) {
    FillNormal({.seed = SeedOf(seeds, row), .purpose = NoisePurpose::kSamplingStart, .sample = samples[row]},
               Row(x_, row));
  }
  return options_.method == SamplingMethod::kEuler ? RunFlow(predict) : RunDiffusion(samples, seeds, predict);
}

absl::Status SamplingLoop::RunFlow(Predict predict) {
  for (size_t i = 0; i + 1 < flow_times_.size(); ++i) {
    RETURN_IF_ERROR(predict(flow_times_[i] * static_cast<double>(kDiffusionSteps)));
    FlowEulerStep(flow_times_[i], flow_times_[i + 1], output_, x_);
  }
  return absl::OkStatus();
}

absl::Status SamplingLoop::RunDiffusion(std::span<const int64_t> samples, std::span<const uint64_t> seeds,
                                        Predict predict) {
  for (size_t i = 0; i < steps_.size(); ++i) {
    RETURN_IF_ERROR(predict(static_cast<double>(steps_[i].t)));
    switch (options_.method) {
      case SamplingMethod::kDdim:
        DdimStep(schedule_, {.prediction = options_.prediction}, steps_[i], output_, {}, x_);
        continue;
      case SamplingMethod::kDpmSolver:
        DpmSolverStep(schedule_, {.prediction = options_.prediction}, steps_, static_cast<int64_t>(i), output_,
                      previous_, x_);
        continue;
      default:
        break;
    }
    for (size_t row = 0; row < rows_; ++row) {
      FillNormal({.seed = SeedOf(seeds, row),
                  .purpose = NoisePurpose::kSamplingStep,
                  .sample = samples[row],
                  .stream = static_cast<uint32_t>(i)},
                 Row(noise_, row));
    }
    DdpmStep(schedule_, {.prediction = options_.prediction}, steps_[i], output_, variance_, noise_, x_);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
