// What a run tells: one JSON object a step in metrics.jsonl, and progress lines for people.
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
  int64_t bucket = 0;    // of its samples (task.h)
  double loss = 0;       // mean over what the task weighs in the global batch, auxiliary losses left out
  double grad_norm = 0;  // of the mean gradient, before clipping
  double learning_rate = 0;
  double tokens_per_second = 0;  // all ranks
  double peak_fraction = 0;      // model FLOP/s over the measured matrix peak of all ranks
  double seconds = 0;            // of the step, evaluation and checkpoint left out
  // What was computed in them of a step's micro-batches: not all of the step's if its first one ran beside the update
  // before, more if the next step's ran beside its own. Speeds are of that; with 0 they are those of the step before.
  double steps_computed = 1;
  double tflops = 0;                                 // model TFLOP/s of all ranks
  std::array<int64_t, kTierCount> tier_bytes = {};   // what rank 0 reserved, as planned
  std::array<double, kLaneCount> busy_seconds = {};  // of rank 0's lanes in the step
  bool skipped = false;                              // non-finite: nothing was updated
  // Of a lock-free update, else empty: how many units lagged by 0, 1, ... steps in this one, and what this rank waited.
  std::vector<int64_t> units_by_lag;
  double update_wait_seconds = 0;
  bool fell_back = false;  // behind it the run went on synchronously
  std::optional<double> validation_loss;
  // The task's own (task.h): of the step and of the evaluation, on all ranks.
  std::vector<TaskNumber> step_numbers, validation_numbers;
  // Of all ranks, in the steps that have a progress line; not part of the JSON object.
  ExpertLoads expert_loads;
};

// The key of a lane's busy seconds: "busy_copy_in".
std::string BusyKey(Lane lane);

// Keys in this order: step, loss, grad_norm, learning_rate, tokens_per_second, peak_fraction, seconds, tflops, a
// <tier>_bytes for each tier, a busy_<lane> in seconds for each lane; skipped if true; of
// a lock-free update units_by_lag, lag_mean, lag_max, update_wait_seconds, and fell_back if true; then the task's and,
// where the step was evaluated, validation_loss and the task's. Numbers are printed with the fewest digits that read
// back as the same double: equal bits print equal.
std::string ToJson(const StepMetrics& metrics);

struct ProgressContext {
  int64_t total_steps = 0;
  double seconds_per_step = 0;
};
// With the keys that other trainers' logs have: loss, grad_norm, lr, memory (rank 0's device tier), tps, tflops, mfu.
// tps and tflops are of all ranks, mfu is peak_fraction.
std::string ProgressLine(const StepMetrics& metrics, const ProgressContext& context);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_H_
