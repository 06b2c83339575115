// Starting a run from weights that come from elsewhere.
#ifndef ANGEL_PTM_TRAIN_IMPORT_H_
#define ANGEL_PTM_TRAIN_IMPORT_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// Writes the run's checkpoint of step 0, from which a resume continues. `read` supplies the parameters of every unit of
// the opened task. The caller must check whether the run already has checkpoints.
absl::StatusOr<SavedCheckpoint> ImportWeights(const TrainConfig& config, const Task& task, const ReadParameters& read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_IMPORT_H_
