// When and where a run saves its state, so that its last healthy checkpoint survives whatever the run does.
#ifndef ANGEL_PTM_TRAIN_SAVER_H_
#define ANGEL_PTM_TRAIN_SAVER_H_

#include <cstdint>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/reporter.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {

class Saver {
 public:
  // `saved_step`: step of the checkpoint from which the run continues; kNone if there is none.
  Saver(Run& run, Reporter& reporter, int64_t saved_step)
      : run_(run), reporter_(reporter), saved_step_(saved_step), healthy_step_(saved_step) {}

  // Notes that step `step` was skipped as non-finite.
  void Skipped(int64_t step);

  // Collective, after a step. Saves if a checkpoint is due, or if the run ends here (`last`). While steps are being
  // skipped, nothing is saved or pruned, because weights that make the loss non-finite are no state to return to; a run
  // that ends then is saved beside its checkpoints. After skipped steps, the last healthy checkpoint is not pruned
  // until a checkpoint interval has passed without any.
  absl::Status SaveIfDue(const TrainState& state, bool last);

  // Says which checkpoint to return to, for the error of a run that diverged.
  std::string WayBack() const;

 private:
  static std::string WhatWasSkipped(const TrainState& state);
  absl::Status Save(const TrainState& state, bool beside, bool last);

  Run& run_;
  Reporter& reporter_;
  int64_t saved_step_;            // of the newest checkpoint
  int64_t healthy_step_;          // of the newest checkpoint whose weights have given a finite step
  int64_t suspect_step_ = kNone;  // of a checkpoint whose weights made the next step non-finite
  bool skipped_since_save_ = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SAVER_H_
