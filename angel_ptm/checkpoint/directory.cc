#include "angel_ptm/checkpoint/directory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"

namespace angel_ptm {
namespace {

constexpr std::string_view kPrefix = "step-", kTemporarySuffix = ".tmp";

// What a directory of checkpoints holds.
struct Listing {
  std::vector<std::pair<int64_t, std::string>> complete;  // (step, name), ascending
  std::vector<std::string> warnings;                      // a sentence per directory that only looks like a checkpoint
};

// Where a directory cannot be looked into that may be the newest checkpoint, that is an error: going on from an older
// one would in time replace it.
absl::StatusOr<Listing> ListCheckpoints(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  std::vector<std::pair<int64_t, std::string>> candidates;
  for (const std::string& name : names) {
    int64_t step = 0;
    if (ParseCheckpointName(name, &step)) candidates.emplace_back(step, name);
  }
  std::sort(candidates.rbegin(), candidates.rend());
  Listing listing;
  for (const auto& candidate : candidates) {
    const std::string path = absl::StrCat(directory, "/", candidate.second);
    const absl::StatusOr<bool> complete = PathExists(absl::StrCat(path, "/", std::string(kManifestFile)));
    if (!complete.ok() && listing.complete.empty()) return complete.status();
    if (complete.ok() && *complete) {
      listing.complete.push_back(candidate);
    } else {
      listing.warnings.push_back(absl::StrCat(
          "ignored ", path, ": ",
          complete.ok() ? "it has no manifest.json, so it is not a complete checkpoint" : complete.status().message()));
    }
  }
  std::reverse(listing.complete.begin(), listing.complete.end());
  return listing;
}

}  // namespace

std::string CheckpointName(int64_t step) { return absl::StrFormat("step-%08d", step); }

std::string TemporaryName(int64_t step) { return CheckpointName(step) + std::string(kTemporarySuffix); }

std::string RankFileName(int rank, int size) { return absl::StrFormat("rank-%05d-of-%05d.safetensors", rank, size); }

bool ParseCheckpointName(std::string_view name, int64_t* step) {
  if (name.substr(0, kPrefix.size()) != kPrefix) return false;
  const std::string digits(name.substr(kPrefix.size()));
  return digits.size() >= 8 && digits.find_first_not_of("0123456789") == std::string::npos &&
         absl::SimpleAtoi(digits, step) && name == CheckpointName(*step);
}

absl::Status PrepareTemporary(const std::string& directory, int64_t step) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  for (const std::string& name : names) {
    const size_t end = name.size() - std::min(name.size(), kTemporarySuffix.size());
    int64_t old_step = 0;
    if (name.substr(end) == kTemporarySuffix && ParseCheckpointName(name.substr(0, end), &old_step)) {
      RETURN_IF_ERROR(RemoveTree(absl::StrCat(directory, "/", name)));
    }
  }
  const std::string path = absl::StrCat(directory, "/", TemporaryName(step));
  if (mkdir(path.c_str(), 0777) != 0) return FileError("create the directory", path, errno);
  return absl::OkStatus();
}

absl::Status PublishTemporary(const std::string& directory, int64_t step) {
  const std::string from = absl::StrCat(directory, "/", TemporaryName(step));
  const std::string to = absl::StrCat(directory, "/", CheckpointName(step));
  RETURN_IF_ERROR(SyncDirectory(from));
  ASSIGN_OR_RETURN(const bool replaces, PathExists(to));
  if (!replaces) {
    RETURN_IF_ERROR(RenamePath(from, to));
    return SyncDirectory(directory);
  }
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
    return FileError("replace the checkpoint of the same step", to, errno);
  }
  RETURN_IF_ERROR(SyncDirectory(directory));
  return RemoveTree(from);
}

absl::Status PruneCheckpoints(const std::string& directory, int64_t keep_last, int64_t current_step) {
  if (keep_last <= 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Listing listing, ListCheckpoints(directory));
  const int64_t excess = static_cast<int64_t>(listing.complete.size()) - keep_last;
  for (int64_t i = 0; i < excess; ++i) {
    const auto& [step, name] = listing.complete[i];
    if (step == current_step) continue;
    // Renamed first, so that a kill half-way leaves a temporary and not a checkpoint with missing files.
    const std::string temporary = absl::StrCat(directory, "/", TemporaryName(step));
    RETURN_IF_ERROR(RenamePath(absl::StrCat(directory, "/", name), temporary));
    RETURN_IF_ERROR(RemoveTree(temporary));
  }
  return absl::OkStatus();
}

absl::StatusOr<LatestCheckpoint> FindLatestCheckpoint(const std::string& directory) {
  LatestCheckpoint latest;
  ASSIGN_OR_RETURN(const bool exists, PathExists(directory));
  if (!exists) return latest;
  ASSIGN_OR_RETURN(const Listing listing, ListCheckpoints(directory));
  if (!listing.complete.empty()) latest.path = absl::StrCat(directory, "/", listing.complete.back().second);
  latest.warning = absl::StrJoin(listing.warnings, "; ");
  return latest;
}

}  // namespace angel_ptm
