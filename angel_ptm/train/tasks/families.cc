// The list of model families.
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/tasks/hunyuan_lm.h"

namespace angel_ptm {

std::unique_ptr<Task> MakeTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states) {
  switch (config.model().family_case()) {
    case ModelConfig::kHunyuanLm:
      return MakeHunyuanLmTask(config, vocab_size, std::move(states));
    case ModelConfig::kDit:
      return MakeDitTask(config, vocab_size, std::move(states));
    case ModelConfig::kHunyuanDit:
      return MakeHunyuanDitTask(config, std::move(states));
    case ModelConfig::FAMILY_NOT_SET:
      break;
  }
  APTM_CHECK(false, "a configuration without a model family was not refused");
}

ModelConfig ScaledModel(const ModelConfig& model, ScaleAxis axis, int64_t steps) {
  ModelConfig scaled = model;
  switch (model.family_case()) {
    case ModelConfig::kHunyuanLm:
      *scaled.mutable_hunyuan_lm() = ScaledHunyuanLm(model.hunyuan_lm(), axis, steps);
      return scaled;
    case ModelConfig::kDit:
      *scaled.mutable_dit() = ScaledDit(model.dit(), axis, steps);
      return scaled;
    case ModelConfig::kHunyuanDit:
      *scaled.mutable_hunyuan_dit() = ScaledHunyuanDit(model.hunyuan_dit(), axis, steps);
      return scaled;
    case ModelConfig::FAMILY_NOT_SET:
      break;
  }
  APTM_CHECK(false, "a configuration without a model family was not refused");
}

absl::StatusOr<std::unique_ptr<Task>> OpenTask(const TrainConfig& config) {
  switch (config.model().family_case()) {
    case ModelConfig::kHunyuanLm:
      return OpenHunyuanLmTask(config);
    case ModelConfig::kDit:
      return OpenDitTask(config);
    case ModelConfig::kHunyuanDit:
      return OpenHunyuanDitTask(config);
    case ModelConfig::FAMILY_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("model: wanted a model family, got none");
}

}  // namespace angel_ptm
