// Hunyuan-DiT as a task: latents and text states of a data directory, noise and times that are functions of (seed,
// sample), and the weighted error of what the model predicts.
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

// task.h, ScaledModel. Depth: by two blocks. Width: by one attention head.
HunyuanDitConfig ScaledHunyuanDit(const HunyuanDitConfig& model, ScaleAxis axis, int64_t steps);

// task.h, MakeTask and OpenTask. The data directory has train.safetensors, for each bucket
// train-HEIGHTxWIDTH.safetensors and, to evaluate, validation.safetensors (latents.h) and, of buckets that have
// held-out samples, validation-HEIGHTxWIDTH.safetensors.
std::unique_ptr<Task> MakeHunyuanDitTask(const TrainConfig& config, std::vector<StateSpec> states);
absl::StatusOr<std::unique_ptr<Task>> OpenHunyuanDitTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_HUNYUAN_DIT_H_
