// Hunyuan-DiT as a task: latents and text states of a data directory; noise and times that are functions of (seed,
// sample); the weighted error of the model's prediction.
#ifndef ANGEL_PTM_TRAIN_TASKS_HUNYUAN_DIT_H_
#define ANGEL_PTM_TRAIN_TASKS_HUNYUAN_DIT_H_

#include <memory>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/model/hunyuan_dit.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

HunyuanDitShape HunyuanDitShapeFromConfig(const ModelConfig& config);

// task.h, ScaledModel. Depth: two blocks at a time. Width: one attention head at a time.
HunyuanDitConfig ScaledHunyuanDit(const HunyuanDitConfig& model, ScaleAxis axis, int64_t steps);

// task.h, MakeTask and OpenTask. The data directory has train.safetensors, for each bucket
// train-HEIGHTxWIDTH.safetensors, for evaluation validation.safetensors (latents.h) and, for buckets with held-out
// samples, validation-HEIGHTxWIDTH.safetensors.
std::unique_ptr<Task> MakeHunyuanDitTask(const TrainConfig& config, std::vector<StateSpec> states);
absl::StatusOr<std::unique_ptr<Task>> OpenHunyuanDitTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_HUNYUAN_DIT_H_
