// What a run would do on machines that are known as numbers (config/cluster.h): budgets, seconds of a step, what bounds
// it, what wears out.
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

// The cluster as one of `ranks` ranks sees it: they fill node after node. `cluster` is valid.
CostModel CostModelOf(const Cluster& cluster, int64_t ranks);

// The configuration with the budgets that it leaves open set to what a rank's part of the cluster has, reserves taken
// off. *facts: what device and host may take together is set where both are the host's memory. kInvalidArgument, one
// sentence per line: more ranks than devices, budgets above what exists, a file tier without drives, a type without
// rates.
absl::StatusOr<TrainConfig> WithBudgetsOf(const Cluster& cluster, const TrainConfig& config, RunFactsForPlan* facts);

struct StepPrediction {
  StepTime time;  // of a rank
  double tokens_per_second = 0;
  double mfu = 0;         // of the peak of the ranks' devices
  double peak_flops = 0;  // of one device
  // Of a node, written in a day; the share of what its drives stand, 0 if that is not known.
  double file_bytes_per_day = 0, endurance_share = 0;
};

// Of training. The tokens are those of the global batch; configuration and plan are those of WithBudgetsOf.
StepPrediction Predict(const RunPlan& run, const TrainConfig& config, const Cluster& cluster, int64_t ranks);

// "predicted step ...": about ten lines.
std::string PredictionText(const StepPrediction& prediction, const Cluster& cluster, int64_t ranks);

// "compute 83 %, copy-in 17 %": lanes of the critical path, the longest first; those under 1 % are left out.
std::string BoundText(const LaneSeconds& time);

// The step in the form of a run's trace (exec/trace.h), begun at 0, as a process of its own: `process` differs from
// every rank.
std::string PredictedTrace(const RunPlan& run, const StepTime& time, int process);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_PREDICT_H_
