// What a user should know about a resumed run: whether it continues with the same loss curve, and with the same bits.
#ifndef ANGEL_PTM_TRAIN_RESUME_NOTES_H_
#define ANGEL_PTM_TRAIN_RESUME_NOTES_H_

#include <string>
#include <vector>

#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/numerics.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {

// Returns sentences, none if the run continues as if it had never stopped. `saved` is the checkpoint's configuration,
// `state` its counters. A changed field that this program does not know to be harmless is reported.
std::vector<std::string> ResumeNotes(const TrainConfig& saved, const TrainState& state, const TrainConfig& now,
                                     const Numerics& numerics, const Task& task);

// The fields that make `got` another model than `wanted`, in the format of ModelDifferences: all that differ, except
// those that the task's family lets a run change.
std::vector<std::string> OtherModelFields(const TrainConfig& wanted, const TrainConfig& got, const Task& task);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_RESUME_NOTES_H_
