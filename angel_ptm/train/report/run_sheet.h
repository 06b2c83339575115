// <output>/run.json: what stays the same over a run's steps, for its report.
#ifndef ANGEL_PTM_TRAIN_REPORT_RUN_SHEET_H_
#define ANGEL_PTM_TRAIN_REPORT_RUN_SHEET_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// What a tier holds while the Plan's micro-step and then its update are played.
struct TierTimeline {
  std::string tier;
  int64_t arena_bytes = 0;
  // For each class that occurs, the live bytes at each of `steps`.
  std::vector<std::pair<std::string, std::vector<int64_t>>> classes;
  // Steps of the plan; those of the update are numbered after the micro-step's. A few hundred, each the fullest of a
  // stretch; all stretches are equal.
  std::vector<int64_t> steps;
  int64_t update_begin = 0;  // the update's first step
};

struct RunSheet {
  std::string model;   // "22.6 M parameters, 8 layers, ..."
  std::string layout;  // "2 ranks x 1 threads, ..."
  int64_t steps = 0;   // of the whole run
  std::vector<TierTimeline> memory;
};

// The tiers that hold anything. When update and micro-step are played together, more may be live than shown.
std::vector<TierTimeline> MemoryOverStep(const Plan& plan);

std::string ToJson(const RunSheet& sheet);
// Returns kInvalidArgument saying what is wrong with the text.
absl::StatusOr<RunSheet> RunSheetFromJson(const std::string& json);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_RUN_SHEET_H_
