// What a run is made of besides its configuration: the trainer's counters, and saving and loading them with the state.
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
  int64_t next_sample = 0;      // samples seen: the next step goes on behind them, whatever its batch
  int64_t applied_updates = 0;  // AdamW's t
  int64_t skipped_updates = 0;  // non-finite steps, in all
  int64_t skipped_in_a_row = 0;
  // Of a lock-free update, else empty: AdamW's t of each unit, and whether the run has fallen back to the synchronous
  // one.
  std::vector<int64_t> unit_updates;
  bool fell_back = false;
  // What its guard against drift has seen; nothing in checkpoints that are older than this.
  DriftMemory losses, gradient_norms;
  // What makes sample number i what it is: tokenizer, token file, sequence length, seed. A run that would see other
  // samples is another run.
  std::string sample_order;
  // The numerics the weights were computed with (law 1): a resumed run with the same ones continues bit for bit.
  Numerics numerics;
};

std::string ToJson(const TrainState& state);
absl::StatusOr<TrainState> TrainStateFromJson(const std::string& json, const std::string& checkpoint_path);

// Where a run keeps its checkpoints.
std::string CheckpointDirectory(const TrainConfig& config);

// Where a run keeps what it saves while its steps are being skipped: beside the checkpoints, which stay as they are.
std::string DivergedDirectory(const TrainConfig& config);

// What a checkpoint keeps besides the state of the units.
struct CheckpointContent {
  const TrainConfig& config;
  const std::vector<CheckpointFile>& files;
  const TrainState& state;
};

// Where it goes, and which of those that are there stay: the last `keep_last`, and that of `protected_step` if any.
struct CheckpointPlace {
  std::string directory;
  int64_t keep_last = 0;
  int64_t protected_step = kNone;
};

// What checkpoints hold of this rank's states: of a parameter its most precise copy.
std::vector<StateSlice> SlicesToSave(const ParameterTable& table, const std::vector<StateView>& views);

// Collective: saves every rank's slices.
absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const CheckpointPlace& place, const Graph& graph,
                                               const std::vector<StateView>& views, const CheckpointContent& content,
                                               Communicator& communicator);

// The configuration that a checkpoint was trained with. *note: empty, or a sentence about what this program does not
// know of it and left out.
absl::StatusOr<TrainConfig> StoredConfig(const CheckpointReader& checkpoint, std::string* note);

// Fills the saved states of `views` from a checkpoint of any world size; the others become zero, or what they start
// with where the checkpoint does not have them, as one of step 0 need not have what starts with zeros. `states`: of the
// run's table.
absl::Status LoadState(const CheckpointReader& checkpoint, const std::vector<StateSpec>& states,
                       const std::vector<StateView>& views);

// The state that --weights `weights` ("last" or "ema") of a checkpoint names, for ReadWeights.
absl::StatusOr<std::string> WeightsToRead(const CheckpointReader& checkpoint, const std::string& weights);
absl::Status ReadWeights(const CheckpointReader& checkpoint, const std::string& state, UnitId unit, int64_t begin,
                         std::span<float> out);
// Fills all that the views keep with such weights, rounded to their types; each of the checkpoint's files is opened
// once.
absl::Status LoadWeights(const CheckpointReader& checkpoint, const std::string& state,
                         const std::vector<StateView>& views);
// Fills all that the view keeps with what `read` gives of its unit, rounded to its type.
absl::Status ReadInto(const StateView& view, const ReadParameters& read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TRAIN_STATE_H_
