// Merges checkpoints into one whose weights are their mean (Wortsman et al. 2022, "Model soups").
#ifndef ANGEL_PTM_TRAIN_MERGE_H_
#define ANGEL_PTM_TRAIN_MERGE_H_

#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"

namespace angel_ptm {

struct MergeInput {
  std::string path;  // of the checkpoint
  double share = 1;  // weight of this input relative to the sum of all shares: finite, >= 0
};

struct MergeOptions {
  std::vector<MergeInput> inputs;  // at least one with a share above 0
  std::string weights = "last";    // which weights of the inputs; or "ema", their averages
  std::string output;              // directory for the merged run; must have no checkpoints
};

// Writes <output>/checkpoints/step-N, where N is the greatest step of the inputs. It has the mean of the inputs'
// weights (summed in double, in the order of the inputs), the first input's configuration and files, and merged.json,
// which records the inputs. It can be sampled from and exported but not resumed, because it has no moments. Memory: a
// few pieces of 4 MiB. Errors: the inputs are different models or read different tokens (all differences in one
// sentence); the output has checkpoints, or another process writes there (output_lock.h).
absl::StatusOr<SavedCheckpoint> MergeCheckpoints(const MergeOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_MERGE_H_
