// Names and life cycle of checkpoint directories: step-00000123 when complete, step-00000123.tmp while being written or
// removed. Only a rename turns one into the other.
#ifndef ANGEL_PTM_CHECKPOINT_DIRECTORY_H_
#define ANGEL_PTM_CHECKPOINT_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

inline constexpr std::string_view kManifestFile = "manifest.json";

std::string CheckpointName(int64_t step);      // "step-00000123"
std::string TemporaryName(int64_t step);       // "step-00000123.tmp"
std::string RankFileName(int rank, int size);  // "rank-00000-of-00002.safetensors"

// True for names CheckpointName makes.
bool ParseCheckpointName(std::string_view name, int64_t* step);

// Makes `directory` and an empty temporary directory for `step` in it; removes temporaries that a killed run left.
absl::Status PrepareTemporary(const std::string& directory, int64_t step);

// Gives the synced temporary directory of `step` its final name, durably; a checkpoint of the same step that is there
// is exchanged for it in one atomic operation and then removed.
absl::Status PublishTemporary(const std::string& directory, int64_t step);

// Removes complete checkpoints but the `keep_last` of the highest steps and `current_step`.
absl::Status PruneCheckpoints(const std::string& directory, int64_t keep_last, int64_t current_step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_DIRECTORY_H_
