// What a run tells: one JSON object a step in metrics.jsonl, and progress lines for people.
#ifndef ANGEL_PTM_TRAIN_METRICS_H_
#define ANGEL_PTM_TRAIN_METRICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/train/task.h"

namespace angel_ptm {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0;       // mean over what the task weighs in the global batch, auxiliary losses left out
  double grad_norm = 0;  // of the mean gradient, before clipping
  double learning_rate = 0;
  double tokens_per_second = 0;  // all ranks
  double peak_fraction = 0;      // model FLOP/s over the measured matrix peak of all ranks
  bool skipped = false;          // non-finite: nothing was updated
  std::optional<double> validation_loss;
  // The task's own (task.h): of the step's last micro-batch of rank 0, and of the evaluation.
  std::vector<TaskNumber> step_numbers, validation_numbers;
};

// Numbers are printed with the fewest digits that read back as the same double: equal bits print equal.
std::string ToJson(const StepMetrics& metrics);

struct ProgressContext {
  int64_t total_steps = 0;
  double seconds_per_step = 0;
};
std::string ProgressLine(const StepMetrics& metrics, const ProgressContext& context);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_H_
