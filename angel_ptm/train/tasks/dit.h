// Diffusion transformers as a task: images of a prepared set with captions or classes; noise and times that are
// functions of (seed, sample); the weighted error of the model's prediction.
#ifndef ANGEL_PTM_TRAIN_TASKS_DIT_H_
#define ANGEL_PTM_TRAIN_TASKS_DIT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/train/diffusion/sampling.h"
#include "angel_ptm/train/diffusion/schedule.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// `vocab_size` is used if the configuration does not set it.
DitShape DitShapeFromConfig(const ModelConfig& config, int64_t vocab_size);

Prediction PredictionFromConfig(DitConfig::Prediction prediction);

// Parameters with which a model is trained and sampled.
struct DitObjective {
  Prediction prediction = Prediction::kFlow;
  double flow_time_mean = 0, flow_time_deviation = 1, flow_shift = 1;
  double beta_start = 0.00085, beta_end = 0.02;
  double min_snr_gamma = 0;
  double condition_dropout = 0;
  double noise_offset = 0;
  double variance_weight = 0;  // weight of the variational bound, in bits
};
DitObjective DitObjectiveFromConfig(const DitConfig& config);
// Fills a row of the input "bound" (kernels/ops/hybrid_loss.h) for a sample of time t.
void FillBound(const DiffusionSchedule& schedule, Prediction prediction, int64_t t, double weight,
               std::span<float> bound);
// task.h, LossNumbers. For a training graph of images with a learned variance: the two parts of the loss, "loss_mse"
// and "loss_bound". For other graphs: none.
std::vector<TaskNumber> LossParts(const Graph& training, const StepSums& sums);
// How such a model is sampled by default.
SamplingOptions DitSampling(const DitObjective& objective);

// task.h, ScaledModel. Width: one attention head at a time; the caption reader does not change.
DitConfig ScaledDit(const DitConfig& model, ScaleAxis axis, int64_t steps);

// task.h, MakeTask and OpenTask.
std::unique_ptr<Task> MakeDitTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states);
absl::StatusOr<std::unique_ptr<Task>> OpenDitTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_DIT_H_
