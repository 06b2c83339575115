// Searches by planning: the largest model that fits a cluster, and the fastest configuration to train a model.
#ifndef ANGEL_PTM_TRAIN_SEARCH_H_
#define ANGEL_PTM_TRAIN_SEARCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/predict.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// Returns kResourceExhausted if the least state that a rank must keep exceeds what all tiers have.
absl::Status CheckStateBytes(const TrainConfig& config, const RunFactsForPlan& facts);

struct LargestModel {
  int64_t steps = 0;   // of the axis (task.h, ScaledModel)
  TrainConfig config;  // with that model
  std::unique_ptr<RunPlan> run;
  StepPrediction prediction;
  // The bytes that all tiers of all ranks have for state, and the bytes of a parameter's states. Their quotient bounds
  // the number of parameters of any plan.
  double budget_bytes = 0, bytes_per_parameter = 0;
  std::string refusal;  // why one step more does not fit
};

// Finds the largest model of the configuration's family, scaled along `axis`, whose plan fits the budgets. The budgets
// must be set (WithBudgetsOf). A larger model needs more of every tier, so bisection finds it: `steps` steps fit, one
// more does not. kResourceExhausted: even a single step is refused. kOutOfRange: `layers_max` layers, a power of two,
// fit. The search ends there, since nobody trains deeper models and planning them takes minutes.
absl::StatusOr<LargestModel> FindLargestModel(const TrainConfig& config, const Cluster& cluster,
                                              const RunFactsForPlan& facts, ScaleAxis axis, int64_t layers_max = 1024);

struct Candidate {
  std::vector<std::string> settings;  // path=value, where they differ from the given configuration
  TrainConfig config;
  double bound_seconds = 0;  // lower bound of the step time of all its plans
  double seconds = 0;        // of the step, if it was planned
  // Whether recomputation AUTO chose the number of blocks for this candidate. If not, the number is that of the
  // candidate with the usual prefetch distance and page size, since a choice takes several plans. The best candidate
  // has its own.
  bool chose_blocks = true;
};

struct FastestRun {
  Candidate best;
  std::vector<Candidate> planned;  // all that were planned, fastest first
  int64_t candidates = 0;          // considered
  // Left out without planning: the state is too large; bound_seconds is no less than the best; or a candidate of the
  // same micro-batch, stage and recomputation does not fit, is within 1 % of the bound, or is 5 % slower than the best.
  int64_t pruned = 0;
  int64_t refused = 0;  // planned and found not to fit
};

// Searches micro-batch (powers of two that divide the global batch), ZeRO stage, recomputation, prefetch distance and
// page size, for the best expert degree. The degrees are compared first, at the given stage (or at 3 if none fits
// there), with the usual distance and page size and the micro-batch that suits each: all with all blocks recomputed,
// the two best also with AUTO. kResourceExhausted if nothing fits.
absl::StatusOr<FastestRun> FindFastest(const TrainConfig& config, const Cluster& cluster, const RunFactsForPlan& facts);

std::string ToText(const LargestModel& largest, const Cluster& cluster, int64_t ranks);
std::string ToText(const FastestRun& fastest);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SEARCH_H_
