// What `angel-ptm plan --json` prints: a run's plan in machine-readable form, with exact numbers.
#ifndef ANGEL_PTM_TRAIN_PLAN_JSON_H_
#define ANGEL_PTM_TRAIN_PLAN_JSON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "angel_ptm/train/predict.h"
#include "angel_ptm/train/run_plan.h"

namespace angel_ptm {

// Returns one JSON object: model, ranks, threads, stage, recomputation; per tier the arena, homes, and (for training
// and evaluation) peak by class and holes; per training segment the steps, bytes moved by lane, and collectives with
// count and bytes; the digests of the plans. `least_device_bytes` is null if it is not known. With a prediction, also
// the seconds of a step, its lanes and rates.
std::string PlanJson(const RunPlan& run, int threads, std::optional<int64_t> least_device_bytes,
                     const StepPrediction* prediction = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_PLAN_JSON_H_
