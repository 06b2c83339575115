// How a run begins: alone in its output directory, from initial weights or from the checkpoint that rank 0 chose, and
// after a proof that all ranks mean the same run.
#ifndef ANGEL_PTM_TRAIN_START_H_
#define ANGEL_PTM_TRAIN_START_H_

#include <optional>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/train_state.h"
#include "optim/schedule.h"

namespace angel_ptm {

LearningRateSchedule ScheduleFromConfig(const TrainConfig& config);

struct RunStart {
  std::optional<OutputLock> lock;  // rank 0's
  std::string checkpoint;          // path to resume from; empty: a fresh start
  TrainState state;
};

// Collective. Takes the output directory, checks that every rank can write there, and fills `run`'s state. Every error
// that all ranks can know is the same on all of them.
absl::Status StartOrResume(Run& run, RunStart& start);

// Collective. Checks that all ranks have the same loop around the Plans and the same samples, the same sequence of
// collectives in each Plan, the same configuration, numerics and Plans down to the last wait (law 4), and the same bits
// of the state that they all keep.
absl::Status VerifyOneSequence(Run& run, const TrainState& state);

// Collective. The next --resume would take checkpoints newer than the one this run continues from. Rank 0 moves them
// and their samples to <output>/set-aside and keeps a copy of the metrics there. A plain --resume removes newer
// samples, which the run makes again.
absl::Status SetNewerAside(Run& run, const RunStart& start);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_START_H_
