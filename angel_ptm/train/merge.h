// One checkpoint whose weights are a mean of others' (Wortsman et al. 2022, "Model soups").
#ifndef ANGEL_PTM_TRAIN_MERGE_H_
#define ANGEL_PTM_TRAIN_MERGE_H_

#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"

namespace angel_ptm {

struct MergeInput {
  std::string path;  // of a checkpoint
  double share = 1;  // of all inputs' sum: finite, >= 0
};

struct MergeOptions {
  std::vector<MergeInput> inputs;  // at least one with a share above 0
  std::string weights = "last";    // of the inputs: or "ema", their averages
  std::string output;              // a run's directory to be, without checkpoints
};

// Writes <output>/checkpoints/step-N, N the greatest of the inputs', with the mean of their weights (summed in double,
// in their order), the first one's configuration and files, and merged.json, which says what it is made of. It can be
// sampled from and exported, not resumed: it has no moments. Memory: some pieces of 4 MiB. Errors: inputs that are
// different models or read different tokens, all named in one sentence; an output that has checkpoints or that another
// process writes to (output_lock.h).
absl::StatusOr<SavedCheckpoint> MergeCheckpoints(const MergeOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_MERGE_H_
