// When and where a run saves its state, so that the last healthy checkpoint outlives whatever the run does.
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
  // `saved_step`: the checkpoint that the run goes on from; kNone if there is none.
  Saver(Run& run, Reporter& reporter, int64_t saved_step)
      : run_(run), reporter_(reporter), saved_step_(saved_step), healthy_step_(saved_step) {}

  // Step `step` was skipped as non-finite.
  void Skipped(int64_t step);

  // Collective, after a step. Saves if a checkpoint is due, or if the run ends here (`last`). While steps are being
  // skipped nothing is saved and nothing pruned: weights that make the loss non-finite are no state to go back to. A
  // run that ends then is saved beside its checkpoints. After skipped steps the last healthy checkpoint is not pruned
  // before an interval without any.
  absl::Status SaveIfDue(const TrainState& state, bool last);

  // What there is to go back to, for the error of a run that diverged.
  std::string WayBack() const;

 private:
  static std::string WhatWasSkipped(const TrainState& state);
  absl::Status Save(const TrainState& state, bool beside, bool last);

  Run& run_;
  Reporter& reporter_;
  int64_t saved_step_;            // of the newest checkpoint
  int64_t healthy_step_;          // of the newest checkpoint whose weights have made a finite step
  int64_t suspect_step_ = kNone;  // of a checkpoint whose weights made the next step non-finite
  bool skipped_since_save_ = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SAVER_H_
