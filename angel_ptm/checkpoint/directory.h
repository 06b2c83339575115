// Names and life cycle of checkpoint directories: step-00000123 when complete, step-00000123.tmp while being written or
// removed, step-00000123.old for the instant in which a complete one makes way for its replacement on a file system
// that cannot exchange two directories. Only renames turn one into the other. FORMAT.md describes the order of writing.
#ifndef ANGEL_PTM_CHECKPOINT_DIRECTORY_H_
#define ANGEL_PTM_CHECKPOINT_DIRECTORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

inline constexpr std::string_view kManifestFile = "manifest.json";

std::string CheckpointName(int64_t step);      // "step-00000123"
std::string TemporaryName(int64_t step);       // "step-00000123.tmp"
std::string RankFileName(int rank, int size);  // "rank-00000-of-00002.safetensors"

// True for names that CheckpointName makes.
bool ParseCheckpointName(std::string_view name, int64_t* step);

// The step that a directory's name states, if it states one: also with fewer digits than CheckpointName writes, and
// with the suffix of a checkpoint that had made way.
std::optional<int64_t> StepOfName(std::string_view name);

// Each of the following appends to *warnings a sentence about what went wrong without doing harm.

// Makes `directory` and an empty temporary directory for `step` in it, and clears what a killed run left: temporaries
// are removed; a complete checkpoint that had made way gets its name back, or is removed if it was replaced. Warns if
// leftovers of other steps stay.
absl::Status PrepareTemporary(const std::string& directory, int64_t step, std::vector<std::string>* warnings);

// Gives the temporary directory of `step`, whose files are synced, its final name. If there is a checkpoint of the same
// step, it is replaced and then removed. Returns true if the new checkpoint keeps its name through a power cut; false,
// with a warning, if it might not, so that no earlier checkpoint may be removed. On error the temporary and the earlier
// checkpoint are as before. Also warns if the replaced checkpoint could not be removed.
absl::StatusOr<bool> PublishTemporary(const std::string& directory, int64_t step, std::vector<std::string>* warnings);

// Removes complete checkpoints, except for the `keep_last` of the highest steps and those of `steps_to_keep`; removes
// none if keep_last is 0. Warns if one could not be removed.
void PruneCheckpoints(const std::string& directory, int64_t keep_last, const std::vector<int64_t>& steps_to_keep,
                      std::vector<std::string>* warnings);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_DIRECTORY_H_
