// The Hunyuan language models as a task: packed sequences of a prepared text, nats per token, bits per byte.
#ifndef ANGEL_PTM_TRAIN_TASKS_HUNYUAN_LM_H_
#define ANGEL_PTM_TRAIN_TASKS_HUNYUAN_LM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/model/hunyuan_lm.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// `vocab_size` is used if the configuration does not set it.
HunyuanLmShape ShapeFromConfig(const ModelConfig& config, int64_t vocab_size);
HunyuanLmBatch BatchFromConfig(const TrainConfig& config);

// task.h, ScaledModel.
HunyuanLmConfig ScaledHunyuanLm(const HunyuanLmConfig& model, ScaleAxis axis, int64_t steps);

// task.h, MakeTask and OpenTask.
std::unique_ptr<Task> MakeHunyuanLmTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states);
absl::StatusOr<std::unique_ptr<Task>> OpenHunyuanLmTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_HUNYUAN_LM_H_
