// Plays the forward graph of a diffusion transformer from noise to samples, for a batch side by side, with guidance.
#ifndef ANGEL_PTM_TRAIN_TASKS_BATCH_SAMPLER_H_
#define ANGEL_PTM_TRAIN_TASKS_BATCH_SAMPLER_H_

#include <cstdint>
#include <functional>
#include <memory>
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

// What a family's forward graph reads beside "noisy".
class Conditions {
 public:
  virtual ~Conditions() = default;
  // Row `row` of the graph is conditioned as sample number `sample` asks for.
  virtual absl::Status SetRow(int64_t row, int64_t sample) = 0;
  // Row `row` is what guidance leads sample number `sample` away from.
  virtual absl::Status SetAway(int64_t row, int64_t sample) = 0;
  // Into the executor that is bound to `graph`, for a time of all rows. All of them: their memory serves other tensors
  // once they are read.
  virtual void Write(double time, const Graph& graph, Executor& executor) = 0;
};

// Where a sample's noise is from.
struct SampleNoise {
  uint64_t seed = 1;
  int64_t number = 0;
};

struct BatchOptions {
  SamplingOptions sampling;
  double guidance = 1;             // Ho & Salimans 2022; 1: none, and rows are not doubled
  int64_t batch = 1;               // samples side by side
  std::vector<SampleNoise> noise;  // by number of the sample; empty: (sampling.seed, number)

  bool guided() const { return guidance != 1; }
  int64_t rows() const { return guided() ? 2 * batch : batch; }  // of the graph
};

// Of the `count` samples that a run makes of itself (sampling{}): its graph has at most as many rows as a micro-batch,
// unless that is one row and guidance takes two.
BatchOptions SamplingBatchFromConfig(const TrainConfig& config, const SamplingOptions& sampling, int64_t count);

// What is told of samples: `step` of the training, then of the sampler.
struct SamplingFacts {
  int64_t step = 0;
  std::string weights;  // "last" or "ema"
  std::string sampler;  // the method's name
  int64_t steps = 0;
  double guidance = 1;
  uint64_t seed = 0;
  double control_scale = 1;  // of a model with a branch that reads a condition
};
// Of the samples that a run makes of itself.
SamplingFacts FactsOfSamples(const TrainConfig& config, int64_t step, const BatchOptions& options);

// kInvalidArgument if the sampler cannot do that: how many steps, guidance, a method for another prediction. Fields are
// named `prefix` and steps, guidance, sampler.
absl::Status CheckBatchOptions(const BatchOptions& options, const std::string& prefix);

// A forward graph of the batch's rows with the executor that is bound to it, and the times from <= t < to at which it
// takes another's place.
struct Denoiser {
  const Graph* graph = nullptr;
  Executor* executor = nullptr;
  double from = 0, to = 0;
};

// Buffers are made once.
class BatchSampler {
 public:
  // `noisy` and `prediction` are the patches that the graph reads and puts out, of samples as the first says; the
  // second has as many channels, or as many again for the variance. The first of `denoisers` serves at all times that
  // no other has; all have the same graph. Nothing is owned.
  BatchSampler(const BatchOptions& options, const PatchGrid& noisy, const PatchGrid& prediction,
               std::vector<Denoiser> denoisers, Conditions& conditions);

  // Sample number samples[i] as row i of samples(), i < batch. Plays the graph equally often whatever the numbers are,
  // so that ranks may each make others.
  absl::Status Make(std::span<const int64_t> samples);
  // [channels, height, width] each.
  std::span<const float> samples() { return loop_.x(); }
  int64_t elements() const { return noisy_grid_.elements(); }  // of a sample

  // Samples 0 to count - 1, batch after batch; hands each to `take`. Tells `progress` of the steps of all batches.
  absl::Status MakeAll(int64_t count, absl::FunctionRef<void(int64_t number, std::span<const float> sample)> take,
                       const ReportProgress& progress = nullptr);

 private:
  absl::Status Predict(double time);
  absl::Status Play(const Denoiser& denoiser);
  // The graph's output for row `row` as planes [channels, height, width], those of the variance behind them.
  std::span<const float> Planes(int64_t row);

  const BatchOptions options_;
  const PatchGrid noisy_grid_, prediction_grid_;
  const std::vector<Denoiser> denoisers_;
  Conditions& conditions_;
  SamplingLoop loop_;
  std::vector<int64_t> noise_numbers_;  // of the batch's samples
  std::vector<uint64_t> noise_seeds_;
  std::vector<float> noisy_, prediction_, planes_, away_;
  std::vector<BFloat16> narrow_;  // the prediction of a graph that computes in bf16
  int64_t steps_done_ = 0;
  std::function<void()> after_step_;  // null but for MakeAll
};

// What a run samples of itself, of any family.
class RunSampler final : public Sampler {
 public:
  // Sampler::Write.
  using Files = std::function<absl::StatusOr<std::string>(const std::string& folder, int64_t step,
                                                          std::span<const float> samples)>;
  // As BatchSampler; `count` samples in all.
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
