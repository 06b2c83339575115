// What a run is made of besides its configuration: the trainer's counters, and saving and loading them with the state.
#ifndef ANGEL_PTM_TRAIN_TRAIN_STATE_H_
#define ANGEL_PTM_TRAIN_TRAIN_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/exec/executor.h"

namespace angel_ptm {

struct TrainState {
  int64_t next_step = 0;        // steps done, skipped ones included
  int64_t next_sample = 0;      // samples seen: the next step goes on behind them, whatever its batch
  int64_t applied_updates = 0;  // AdamW's t
  int64_t skipped_updates = 0;  // non-finite steps, in all
  int64_t skipped_in_a_row = 0;
  // What makes sample number i what it is: tokenizer, token file, sequence length, seed. A run that would see other
  // samples is another run.
  std::string sample_order;
  // The numerics the weights were computed with (law 1): a resumed run with the same ones continues bit for bit.
  std::string numerics;
};

std::string ToJson(const TrainState& state);
absl::StatusOr<TrainState> TrainStateFromJson(const std::string& json, const std::string& checkpoint_path);

// One line that names everything law 1 holds fixed: world size, batch, accumulation, threads, chunk sizes, backend.
std::string DescribeNumerics(const TrainConfig& config, int world_size, int threads, const char* backend);

std::string DescribeSampleOrder(const TrainConfig& config, const DatasetManifest& dataset);

// Where a run keeps its checkpoints.
std::string CheckpointDirectory(const TrainConfig& config);

// Collective: saves every rank's slices, and the tokenizer of the dataset that the run has opened.
absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const TrainConfig& config, const Graph& graph,
                                               const std::vector<StateView>& views, const TrainState& state,
                                               const TextDataset& dataset, Communicator& communicator);

// OK if a run of `config` may go on from the checkpoint: the model that its configuration describes is the same,
// besides what CheckGraph sees in the shapes. Otherwise kFailedPrecondition with every field that differs.
absl::Status CheckSameModel(const TrainConfig& config, const CheckpointReader& checkpoint);

// Fills the saved states of `views` from a checkpoint of any world size; the others become zero. `states`:
// Graph::states.
absl::Status LoadState(const CheckpointReader& checkpoint, const std::vector<StateSpec>& states,
                       const std::vector<StateView>& views);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TRAIN_STATE_H_
