// What `angel-ptm plan --json` prints: the plan of a run for programs, all numbers exact.
#ifndef ANGEL_PTM_TRAIN_PLAN_JSON_H_
#define ANGEL_PTM_TRAIN_PLAN_JSON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "angel_ptm/train/predict.h"
#include "angel_ptm/train/run_plan.h"

namespace angel_ptm {

// One JSON object: model, ranks, threads, stage, recomputation; per tier the arena, homes, peak by class and holes (for
// training and evaluation); per segment of training the steps, moved bytes by lane and collectives with count and
// bytes; the plans' digests. `least_device_bytes` is null where it is not known. With a prediction: seconds of a step,
// its lanes and rates.
std::string PlanJson(const RunPlan& run, int threads, std::optional<int64_t> least_device_bytes,
                     const StepPrediction* prediction = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_PLAN_JSON_H_
