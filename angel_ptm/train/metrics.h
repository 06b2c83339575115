// What a run reports: one JSON object per step in metrics.jsonl, and progress lines for people.
#ifndef ANGEL_PTM_TRAIN_METRICS_H_
#define ANGEL_PTM_TRAIN_METRICS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/tier_kind.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

struct StepMetrics {
  int64_t step = 0;
  int64_t bucket = 0;    // of the step's samples (task.h)
  double loss = 0;       // mean over the global batch by the task's weights, without auxiliary losses
  double grad_norm = 0;  // of the mean gradient, before clipping
  double learning_rate = 0;
  double tokens_per_second = 0;  // all ranks
  double peak_fraction = 0;      // model FLOP/s over the measured matrix peak of all ranks
  double seconds = 0;            // of the step, without evaluation and checkpoint
  // How many steps' worth of micro-batches was computed in these seconds: less than 1 if the first micro-batch ran
  // beside the previous update, more if the next step's ran beside this update. Speeds are computed from it; if it is
  // 0, the speeds of the previous step are reported.
  double steps_computed = 1;
  double tflops = 0;                                 // model TFLOP/s of all ranks
  std::array<int64_t, kTierCount> tier_bytes = {};   // what rank 0 reserved, as planned
  std::array<double, kLaneCount> busy_seconds = {};  // of rank 0's lanes in the step
  bool skipped = false;                              // non-finite step: nothing was updated
  // Only for a lock-free update: how many units lagged by 0, 1, ... steps in this step, and how long this rank waited.
  std::vector<int64_t> units_by_lag;
  double update_wait_seconds = 0;
  bool fell_back = false;  // after this step the run continued synchronously
  std::optional<double> validation_loss;
  // The task's own numbers (task.h), of the step and of the evaluation, over all ranks.
  std::vector<TaskNumber> step_numbers, validation_numbers;
  // Over all ranks, only in steps that have a progress line; not part of the JSON object.
  ExpertLoads expert_loads;
};

// The JSON key for a lane's busy seconds, such as "busy_copy_in".
std::string BusyKey(Lane lane);

// Keys in this order: step, loss, grad_norm, learning_rate, tokens_per_second, peak_fraction, seconds, tflops;
// <tier>_bytes for each tier; busy_<lane> (seconds) for each lane; skipped if true; for a lock-free update
// units_by_lag, lag_mean, lag_max, update_wait_seconds, and fell_back if true; the task's numbers of the step; if the
// step was evaluated, validation_loss and the task's numbers of the evaluation. Numbers have the fewest digits that
// read back as the same double, so equal bits print equal.
std::string ToJson(const StepMetrics& metrics);

struct ProgressContext {
  int64_t total_steps = 0;
  double seconds_per_step = 0;
};
// Uses the keys of other trainers' logs: loss, grad_norm, lr, memory (rank 0's device tier), tps, tflops, mfu. tps and
// tflops are sums over all ranks; mfu is peak_fraction.
std::string ProgressLine(const StepMetrics& metrics, const ProgressContext& context);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_H_
