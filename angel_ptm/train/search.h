// Searches by planning: the largest model that fits a cluster, and the fastest way to train one.
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

// kResourceExhausted if the state that a rank keeps at the least is more than all tiers have.
absl::Status CheckStateBytes(const TrainConfig& config, const RunFactsForPlan& facts);

struct LargestModel {
  int64_t steps = 0;   // of the axis (task.h, ScaledModel)
  TrainConfig config;  // with that model
  std::unique_ptr<RunPlan> run;
  StepPrediction prediction;
  // What all tiers of all ranks together have for state, and that divided by the bytes of a parameter's states: no plan
  // keeps more.
  double budget_bytes = 0, bytes_per_parameter = 0;
  std::string refusal;  // of one step more
};

// The largest model of the configuration's family along the axis whose plan fits the budgets, which must be set
// (WithBudgetsOf). A model's plan needs more of every tier than that of a smaller one, so that bisection finds it:
// `steps` fits, `steps` + 1 does not. kResourceExhausted: the refusal of a single step. kOutOfRange: `layers_max` fit,
// the most to look for, as nobody trains deeper models and planning them takes minutes.
absl::StatusOr<LargestModel> FindLargestModel(const TrainConfig& config, const Cluster& cluster,
                                              const RunFactsForPlan& facts, ScaleAxis axis, int64_t layers_max = 1024);

struct Candidate {
  std::vector<std::string> settings;  // path=value, where it differs from the given configuration
  TrainConfig config;
  double bound_seconds = 0;  // no plan of it has a shorter step
  double seconds = 0;        // of the planned ones
  // Of recomputation AUTO: whether that number of blocks is its own choice. Else it is that of the candidate with the
  // usual prefetch distance and pages: a choice takes several plans. The best has its own.
  bool chose_blocks = true;
};

struct FastestRun {
  Candidate best;
  std::vector<Candidate> planned;  // all that were, the fastest first
  int64_t candidates = 0;          // considered
  // Left out by arithmetic: state that is too large, bound_seconds no less than the best, or another of the same
  // micro-batch, stage and recomputation within 1 % of the bound, or 5 % slower than the best.
  int64_t pruned = 0;
  int64_t refused = 0;  // planned and found not to fit
};

// Over micro-batch (powers of two that divide the global batch), ZeRO stage, recomputation, prefetch distance and page
// size; of the expert degree that is best at the given stage (or at 3 if none fits there), the usual distance and
// pages and the micro-batch that suits it. Degrees are compared with all blocks recomputed, the two best with
// AUTO. kResourceExhausted if none fits.
absl::StatusOr<FastestRun> FindFastest(const TrainConfig& config, const Cluster& cluster, const RunFactsForPlan& facts);

std::string ToText(const LargestModel& largest, const Cluster& cluster, int64_t ranks);
std::string ToText(const FastestRun& fastest);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SEARCH_H_
