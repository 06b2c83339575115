// What a user should know about a resumed run: whether it goes on with the same curve, and with the same bits.
#ifndef ANGEL_PTM_TRAIN_RESUME_NOTES_H_
#define ANGEL_PTM_TRAIN_RESUME_NOTES_H_

#include <string>
#include <vector>

#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/numerics.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {

// Sentences, none if the run goes on as if it had not been stopped. `saved` is the configuration of the checkpoint,
// `state` its counters. A field that this program does not know to be harmless is told.
std::vector<std::string> ResumeNotes(const TrainConfig& saved, const TrainState& state, const TrainConfig& now,
                                     const Numerics& numerics, const Task& task);

// The fields in which `got` is another model than `wanted`, as ModelDifferences tells them: all that the task's family
// does not let a run change.
std::vector<std::string> OtherModelFields(const TrainConfig& wanted, const TrainConfig& got, const Task& task);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_RESUME_NOTES_H_
