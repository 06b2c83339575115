// The training loop of one rank: micro-steps, update, evaluation, checkpoints, metrics. Every rank runs the same code;
// only rank 0 prints and writes metrics.
#ifndef ANGEL_PTM_TRAIN_TRAINER_H_
#define ANGEL_PTM_TRAIN_TRAINER_H_

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/plan/cost.h"
#include "angel_ptm/train/device_choice.h"
#include "angel_ptm/train/numerics.h"
#include "comm/communicator.h"

namespace angel_ptm {

struct TrainerOptions {
  bool resume = false;                                // go on from the newest checkpoint of the output directory
  bool start_if_none = false;                         // with `resume`: where there is none, from the beginning
  std::optional<int64_t> resume_from = {};            // go on from the checkpoint of this step, newer ones set aside
  const std::atomic<bool>* stop_requested = nullptr;  // set from outside (SIGTERM): save a checkpoint and end
  std::FILE* out = nullptr;                           // rank 0's text for people; null: none
  // Told what the rank is doing, for the progress board (exec/executor.h).
  PublishActivity publish;
  BuildFacts build;                            // of the program, recorded with the numerics
  const KernelTable* kernels = &CpuKernels();  // of the CPU
  DeviceOffer gpus;                            // which the configuration may choose
  // By whose time the plan is chosen (run_plan.h), the same on all ranks; null: typical numbers.
  std::shared_ptr<const CostModel> cost;
};

// Trains as rank `communicator.rank()` until config.steps() or a stop request, which is honoured between micro-batches:
// the state before the step is saved. Only one run at a time has an output directory. `config` was validated against
// `facts`. Collective; returns the first error, in which case the newest checkpoint is intact. Errors name rank, step
// and place.
absl::Status TrainRank(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options,
                       Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TRAINER_H_
