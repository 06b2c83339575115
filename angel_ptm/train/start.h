// Where a run begins: alone in its output directory, from initial weights or from the checkpoint that rank 0 chose, and
// with the proof that all ranks mean the same run.
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
  std::string checkpoint;          // gone on from; empty: a fresh start
  TrainState state;
};

// Collective. Takes the output directory, checks that every rank can write there, and fills `run`'s state. Errors are
// the same on every rank where every rank can know them.
absl::Status StartOrResume(Run& run, RunStart& start);

// Collective. The loop around the Plans and the samples it feeds, all Plans' collectives in the order of a step, the
// configuration, the numerics and the Plans to the last wait are the same on all ranks (law 4), and so are the bits of
// the state they all keep.
absl::Status VerifyOneSequence(Run& run, const TrainState& state);

// Collective. What is newer than the checkpoint gone on from would be taken by the next --resume: rank 0 moves it to
// <output>/set-aside, samples too, and keeps a copy of the metrics there. Samples that a plain --resume comes to again
// are removed.
absl::Status SetNewerAside(Run& run, const RunStart& start);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_START_H_
