// A run's state besides its configuration: the trainer's counters, and saving and loading them with the states of
// units.
#ifndef ANGEL_PTM_TRAIN_TRAIN_STATE_H_
#define ANGEL_PTM_TRAIN_TRAIN_STATE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/train/drift_guard.h"
#include "angel_ptm/train/numerics.h"

namespace angel_ptm {

struct TrainState {
  int64_t next_step = 0;        // steps done, skipped ones included
  int64_t next_sample = 0;      // samples seen: the next step continues after them, whatever its batch size
  int64_t applied_updates = 0;  // AdamW's t
  int64_t skipped_updates = 0;  // non-finite steps in total
  int64_t skipped_in_a_row = 0;
  // Only for a lock-free update: AdamW's t of each unit, and whether the run has fallen back to the synchronous update.
  std::vector<int64_t> unit_updates;
  bool fell_back = false;
  // What the drift guard has seen; empty in checkpoints older than these fields.
  DriftMemory losses, gradient_norms;
  // Everything that determines sample number i: tokenizer, token file, sequence length, seed. A run that would see
  // other samples is another run.
  std::string sample_order;
  // The numerics that the weights were computed with (law 1): a run resumed with the same ones continues bit for bit.
  Numerics numerics;
};

std::string ToJson(const TrainState& state);
absl::StatusOr<TrainState> TrainStateFromJson(const std::string& json, const std::string& checkpoint_path);

// The directory of a run's checkpoints.
std::string CheckpointDirectory(const TrainConfig& config);

// The directory for what a run saves while its steps are being skipped. The checkpoints stay as they are.
std::string DivergedDirectory(const TrainConfig& config);

// What a checkpoint keeps besides the states of the units.
struct CheckpointContent {
  const TrainConfig& config;
  const std::vector<CheckpointFile>& files;
  const TrainState& state;
};

// Where a checkpoint goes, and which existing ones stay: the last `keep_last`, and that of `protected_step` if set.
struct CheckpointPlace {
  std::string directory;
  int64_t keep_last = 0;
  int64_t protected_step = kNone;
};

// What a checkpoint saves of this rank's states. Of a parameter it saves the most precise copy.
std::vector<StateSlice> SlicesToSave(const ParameterTable& table, const std::vector<StateView>& views);

// Collective: saves every rank's slices.
absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const CheckpointPlace& place, const Graph& graph,
                                               const std::vector<StateView>& views, const CheckpointContent& content,
                                               Communicator& communicator);

// The configuration that a checkpoint was trained with. *note: empty, or a sentence that names the parts that this
// program does not know and left out.
absl::StatusOr<TrainConfig> StoredConfig(const CheckpointReader& checkpoint, std::string* note);

// Fills the saved states of `views` from a checkpoint of any world size. A state that starts as the parameters starts
// so again if the checkpoint does not have it. A state that starts with zeros becomes zero if it is not saved, or if a
// checkpoint of step 0 does not have it. Any other missing state is kNotFound. `states`: those of the run's table.
absl::Status LoadState(const CheckpointReader& checkpoint, const std::vector<StateSpec>& states,
                       const std::vector<StateView>& views);

// Maps --weights ("last" or "ema") to the name of the checkpoint's state to read, for ReadWeights.
absl::StatusOr<std::string> WeightsToRead(const CheckpointReader& checkpoint, const std::string& weights);
absl::Status ReadWeights(const CheckpointReader& checkpoint, const std::string& state, UnitId unit, int64_t begin,
                         std::span<float> out);
// Fills everything that the views keep with these weights, rounded to the views' types. Opens each of the checkpoint's
// files once.
absl::Status LoadWeights(const CheckpointReader& checkpoint, const std::string& state,
                         const std::vector<StateView>& views);
// Fills everything that the view keeps with what `read` returns for its unit, rounded to the view's type.
absl::Status ReadInto(const StateView& view, const ReadParameters& read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TRAIN_STATE_H_
