// Predicts what a run would do on machines described by numbers (config/cluster.h): budgets, seconds per step, what
// bounds the step, and wear of the drives.
#ifndef ANGEL_PTM_TRAIN_PREDICT_H_
#define ANGEL_PTM_TRAIN_PREDICT_H_

#include <array>
#include <cstdint>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/cluster.pb.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/plan/cost.h"
#include "angel_ptm/plan/simulate.h"
#include "angel_ptm/train/run_plan.h"

namespace angel_ptm {

// The cluster as one of `ranks` ranks sees it; ranks fill node after node. `cluster` must be valid.
CostModel CostModelOf(const Cluster& cluster, int64_t ranks);

// Returns the configuration with each unset budget set to what a rank's part of the cluster has, less reserves. If
// device and host tier are both host memory, sets in *facts what they may take together. kInvalidArgument, one sentence
// per line: more ranks than devices, budgets above what exists, a file tier without drives, a type without rates.
absl::StatusOr<TrainConfig> WithBudgetsOf(const Cluster& cluster, const TrainConfig& config, RunFactsForPlan* facts);

struct StepPrediction {
  StepTime time;  // of a rank
  double tokens_per_second = 0;
  double mfu = 0;         // fraction of the peak of all ranks' devices
  double peak_flops = 0;  // of one device
  // Bytes that a node writes to files per day, and the fraction of its drives' rated endurance that this is, 0 if
  // unknown.
  double file_bytes_per_day = 0, endurance_share = 0;
};

// Predicts training. Tokens are those of the global batch; configuration and plan are those that WithBudgetsOf gave.
StepPrediction Predict(const RunPlan& run, const TrainConfig& config, const Cluster& cluster, int64_t ranks);

// "predicted step ...": about ten lines.
std::string PredictionText(const StepPrediction& prediction, const Cluster& cluster, int64_t ranks);

// "compute 83 %, copy-in 17 %": lanes on the critical path, longest first; those under 1 % are left out.
std::string BoundText(const LaneSeconds& time);

// The step in the format of a run's trace (exec/trace.h), beginning at time 0. `process` is its process number in the
// trace and must differ from that of every rank.
std::string PredictedTrace(const RunPlan& run, const StepTime& time, int process);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_PREDICT_H_
