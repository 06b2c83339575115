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
  bool resume = false;                      // continue from the newest checkpoint of the output directory
  bool start_if_none = false;               // with `resume`: start from the beginning if there is no checkpoint
  std::optional<int64_t> resume_from = {};  // continue from the checkpoint of this step; newer ones are set aside
  const std::atomic<bool>* stop_requested = nullptr;  // set from outside (SIGTERM): save a checkpoint and stop
  std::FILE* out = nullptr;                           // rank 0's text for people; null: none
  // Receives what the rank is doing, for the progress board (exec/executor.h).
  PublishActivity publish;
  BuildFacts build;                            // facts about the program, recorded with the numerics
  const KernelTable* kernels = &CpuKernels();  // of the CPU
  DeviceOffer gpus;                            // that the configuration may choose
  // Cost model for choosing the plan (run_plan.h), the same on all ranks; null: typical numbers.
  std::shared_ptr<const CostModel> cost;
};

// Collective. Trains as rank `communicator.rank()` until config.steps() or a stop request. A stop request takes effect
// between micro-batches: the state from before the step is saved. Only one run at a time can use an output directory.
// `config` must have been validated against `facts`. Returns the first error, which names rank, step and place; the
// newest checkpoint is then intact.
absl::Status TrainRank(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options,
                       Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TRAINER_H_
