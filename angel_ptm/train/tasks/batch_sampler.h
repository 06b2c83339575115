// Plays the forward graph of a diffusion transformer from noise to samples, for a batch side by side, with guidance.
#ifndef ANGEL_PTM_TRAIN_TASKS_BATCH_SAMPLER_H_
#define ANGEL_PTM_TRAIN_TASKS_BATCH_SAMPLER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/progress.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/diffusion/sampling.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// What a family's forward graph reads besides "noisy".
class Conditions {
 public:
  virtual ~Conditions() = default;
  // Conditions row `row` of the graph as sample number `sample` asks.
  virtual absl::Status SetRow(int64_t row, int64_t sample) = 0;
  // Conditions row `row` on what guidance leads sample number `sample` away from.
  virtual absl::Status SetAway(int64_t row, int64_t sample) = 0;
  // Writes the inputs into the executor that is bound to `graph`, for a time that all rows share. Always writes all of
  // them, because their memory serves other tensors once they have been read.
  virtual void Write(double time, const Graph& graph, Executor& executor) = 0;
};

// Where a sample's noise comes from.
struct SampleNoise {
  uint64_t seed = 1;
  int64_t number = 0;
};

struct BatchOptions {
  SamplingOptions sampling;
  double guidance = 1;             // Ho & Salimans 2022; 1: none, and rows are not doubled
  int64_t batch = 1;               // samples side by side
  std::vector<SampleNoise> noise;  // by sample number; empty: (sampling.seed, number)

  bool guided() const { return guidance != 1; }
  int64_t rows() const { return guided() ? 2 * batch : batch; }  // rows of the graph
};

// For the `count` samples of a run's sampling{}: the graph has at most as many rows as a micro-batch, unless a
// micro-batch is one row and guidance takes two.
BatchOptions SamplingBatchFromConfig(const TrainConfig& config, const SamplingOptions& sampling, int64_t count);

// What is recorded with samples. `step` counts training steps, `steps` those of the sampler.
struct SamplingFacts {
  int64_t step = 0;
  std::string weights;  // "last" or "ema"
  std::string sampler;  // the method's name
  int64_t steps = 0;
  double guidance = 1;
  uint64_t seed = 0;
  std::optional<double> control_scale = {};  // for a model with a branch that reads a condition
  std::vector<std::string> prompts = {};     // the texts of the prompts, where samples refer to prompts by number
};
// For the samples that a run makes of its own model.
SamplingFacts FactsOfSamples(const TrainConfig& config, int64_t step, const BatchOptions& options);

// Returns kInvalidArgument if the number of steps or the guidance is out of range, or the method does not suit the
// model's prediction. Names the fields `prefix` followed by steps, guidance or sampler.
absl::Status CheckBatchOptions(const BatchOptions& options, const std::string& prefix);

// A forward graph for the batch's rows with the executor bound to it, and the times from <= t < to at which it replaces
// the first denoiser.
struct Denoiser {
  const Graph* graph = nullptr;
  Executor* executor = nullptr;
  double from = 0, to = 0;
};

// Its buffers are made once.
class BatchSampler {
 public:
  // `noisy` and `prediction` describe the patches that the graph reads and outputs, and `noisy` also the samples.
  // `prediction` has the same number of channels, or twice as many if it includes the variance. denoisers[0] serves at
  // all times that no other one covers. All graphs must be equal. Nothing is owned.
  BatchSampler(const BatchOptions& options, const PatchGrid& noisy, const PatchGrid& prediction,
               std::vector<Denoiser> denoisers, Conditions& conditions);

  // Makes sample number samples[i] as row i of samples(), i < batch. Plays the graph equally often for any numbers, so
  // each rank may make different samples.
  absl::Status Make(std::span<const int64_t> samples);
  // [batch, channels, height, width].
  std::span<const float> samples() { return loop_.x(); }
  int64_t elements() const { return noisy_grid_.elements(); }  // per sample

  // Makes samples 0 to count - 1, batch after batch, and passes each to `take`. Reports the steps of all batches to
  // `progress`.
  absl::Status MakeAll(int64_t count, absl::FunctionRef<void(int64_t number, std::span<const float> sample)> take,
                       const ReportProgress& progress = nullptr);

 private:
  absl::Status Predict(double time);
  absl::Status Play(const Denoiser& denoiser);
  // The graph's output for row `row` as planes [channels, height, width], followed by those of the variance if there
  // are any.
  std::span<const float> Planes(int64_t row);

  const BatchOptions options_;
  const PatchGrid noisy_grid_, prediction_grid_;
  const std::vector<Denoiser> denoisers_;
  Conditions& conditions_;
  SamplingLoop loop_;
  std::vector<int64_t> noise_numbers_;  // by row of the batch
  std::vector<uint64_t> noise_seeds_;
  std::vector<float> noisy_, prediction_, planes_, away_;
  std::vector<BFloat16> narrow_;  // the output of a graph that computes in bf16
  int64_t steps_done_ = 0;
  std::function<void()> after_step_;  // null except during MakeAll
};

// The samples that a run makes of its own model, for any family.
class RunSampler final : public Sampler {
 public:
  // Implements Sampler::Write.
  using Files = std::function<absl::StatusOr<std::string>(const std::string& folder, int64_t step,
                                                          std::span<const float> samples)>;
  // The arguments are those of BatchSampler; `count` samples in all.
  RunSampler(int64_t count, const BatchOptions& options, const PatchGrid& noisy, const PatchGrid& prediction,
             Denoiser denoiser, std::unique_ptr<Conditions> conditions, Files files)
      : count_(count),
        batch_(options.batch),
        conditions_(std::move(conditions)),
        sampler_(options, noisy, prediction, {denoiser}, *conditions_),
        files_(std::move(files)) {}

  int64_t count() const override { return count_; }
  int64_t batch() const override { return batch_; }
  int64_t elements() const override { return sampler_.elements(); }
  absl::StatusOr<std::span<const float>> Make(std::span<const int64_t> samples) override {
    RETURN_IF_ERROR(sampler_.Make(samples));
    return sampler_.samples();
  }
  absl::StatusOr<std::string> Write(const std::string& folder, int64_t step,
                                    std::span<const float> samples) const override {
    return files_(folder, step, samples);
  }

 private:
  const int64_t count_, batch_;
  const std::unique_ptr<Conditions> conditions_;
  BatchSampler sampler_;
  const Files files_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_BATCH_SAMPLER_H_
