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

constexpr std::string_view kPrefix = "step-", kTemporarySuffix = ".tmp", kDisplacedSuffix = ".old";
// A search fails only if a concurrent run saves this often while the reader looks.
constexpr int kLooksMax = 20;

// Identifies the directory that a path leads to; nothing if it leads nowhere.
using FileIdentity = std::pair<dev_t, ino_t>;
std::optional<FileIdentity> IdentityOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return FileIdentity(info.st_dev, info.st_ino);
}

// True for the name of a step's checkpoint followed by `suffix`.
bool ParseSuffixedName(std::string_view name, std::string_view suffix, int64_t* step) {
  return name.ends_with(suffix) && ParseCheckpointName(name.substr(0, name.size() - suffix.size()), step);
}

// What a directory of checkpoints holds.
struct Listing {
  std::vector<std::pair<int64_t, std::string>> complete;  // (step, name), ascending
  std::vector<std::string> warnings;                      // a sentence per directory that only looks like a checkpoint
  bool vanished = false;                                  // one went away while it was looked at
};

// Warns about a directory that has a manifest but a name by which nothing will find it.
void WarnOfName(const std::string& directory, const std::string& name, std::vector<std::string>* warnings) {
  const std::optional<int64_t> step = StepOfName(name);
  if (!step) return;
  const std::string path = absl::StrCat(directory, "/", name);
  const absl::StatusOr<bool> complete = PathExists(absl::StrCat(path, "/", std::string(kManifestFile)));
  if (!complete.ok() || !*complete) return;
  warnings->push_back(
      absl::StrCat("ignored ", path, ": a checkpoint of step ", *step, " would be named ", CheckpointName(*step)));
}

// It is an error if a directory that may be the newest checkpoint cannot be looked into: going on from an older one
// would in time replace it.
absl::StatusOr<Listing> ListCheckpoints(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  std::vector<std::pair<int64_t, std::string>> candidates;
  Listing listing;
  for (const std::string& name : names) {
    int64_t step = 0;
    const bool displaced = ParseSuffixedName(name, kDisplacedSuffix, &step) &&
                           !std::binary_search(names.begin(), names.end(), CheckpointName(step));
    if (displaced || ParseCheckpointName(name, &step)) {
      candidates.emplace_back(step, name);
    } else if (!ParseSuffixedName(name, kDisplacedSuffix, &step)) {
      WarnOfName(directory, name, &listing.warnings);
    }
  }
  std::sort(candidates.rbegin(), candidates.rend());
  for (const auto& candidate : candidates) {
    const std::string path = absl::StrCat(directory, "/", candidate.second);
    const absl::StatusOr<bool> complete = PathExists(absl::StrCat(path, "/", std::string(kManifestFile)));
    if (!complete.ok() && listing.complete.empty()) return complete.status();
    const absl::StatusOr<bool> there = complete.ok() && !*complete ? PathExists(path) : true;
    if (complete.ok() && *complete) {
      listing.complete.push_back(candidate);
    } else if (there.ok() && !*there) {
      listing.vanished = true;  // pruned by a run that goes on, or given another name
    } else {
      listing.warnings.push_back(absl::StrCat(
          "ignored ", path, ": ",
          complete.ok() ? "it has no manifest.json, so it is not a complete checkpoint" : complete.status().message()));
    }
  }
  std::reverse(listing.complete.begin(), listing.complete.end());
  return listing;
}

// Swaps two directories in one atomic operation; false where the file system cannot.
absl::StatusOr<bool> Exchange(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return false;
  return FileError("replace the checkpoint of the same step", to, errno);
}

// Renames `to`, a checkpoint's name, aside and then `from` to `to`. If the process is killed in between, the displaced
// checkpoint still counts as one.
absl::Status MakeWayFor(const std::string& from, const std::string& to) {
  const std::string displaced = absl::StrCat(to, std::string(kDisplacedSuffix));
  RETURN_IF_ERROR(RenamePath(to, displaced));
  const absl::Status status = RenamePath(from, to);
  // If this fails too, the displaced checkpoint keeps that name, and readers find it.
  if (!status.ok()) RenamePath(displaced, to).IgnoreError();
  return status;
}

// Removes a displaced checkpoint that was replaced. It is renamed to a temporary first, because what is named .old is
// complete.
absl::Status RemoveDisplaced(const std::string& directory, int64_t step) {
  const std::string temporary = absl::StrCat(directory, "/", TemporaryName(step));
  RETURN_IF_ERROR(
      RenamePath(absl::StrCat(directory, "/", CheckpointName(step), std::string(kDisplacedSuffix)), temporary));
  return RemoveTree(temporary);
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

std::optional<int64_t> StepOfName(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  if (name.ends_with(kDisplacedSuffix)) name.remove_suffix(kDisplacedSuffix.size());
  int64_t step = 0;
  if (name.empty() || name.find_first_not_of("0123456789") != std::string_view::npos ||
      !absl::SimpleAtoi(absl::string_view(name.data(), name.size()), &step)) {
    return std::nullopt;
  }
  return step;
}

absl::Status PrepareTemporary(const std::string& directory, int64_t step, std::vector<std::string>* warnings) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  // Temporaries first, because a displaced checkpoint takes a temporary's name on its way out.
  for (const std::string_view suffix : {kTemporarySuffix, kDisplacedSuffix}) {
    for (const std::string& name : names) {
      int64_t old_step = 0;
      if (!ParseSuffixedName(name, suffix, &old_step)) continue;
      const std::string path = absl::StrCat(directory, "/", name);
      const std::string final_name = CheckpointName(old_step);
      absl::Status cleared;
      if (suffix == kTemporarySuffix) {
        cleared = RemoveTree(path);
      } else if (std::binary_search(names.begin(), names.end(), final_name)) {
        cleared = RemoveDisplaced(directory, old_step);
      } else {
        cleared = RenamePath(path, absl::StrCat(directory, "/", final_name));
      }
      if (cleared.ok()) continue;
      if (old_step == step) return cleared;
      warnings->push_back(absl::StrCat("what a killed run left stays: ", cleared.message()));
    }
  }
  const std::string path = absl::StrCat(directory, "/", TemporaryName(step));
  if (mkdir(path.c_str(), 0777) != 0) return FileError("create the directory", path, errno);
  return absl::OkStatus();
}

absl::StatusOr<bool> PublishTemporary(const std::string& directory, int64_t step, std::vector<std::string>* warnings) {
  const std::string from = absl::StrCat(directory, "/", TemporaryName(step));
  const std::string to = absl::StrCat(directory, "/", CheckpointName(step));
  RETURN_IF_ERROR(SyncDirectory(from));
  ASSIGN_OR_RETURN(const bool replaces, PathExists(to));
  bool exchanged = false;
  if (replaces) {
    ASSIGN_OR_RETURN(exchanged, Exchange(from, to));
    if (!exchanged) RETURN_IF_ERROR(MakeWayFor(from, to));
  } else {
    RETURN_IF_ERROR(RenamePath(from, to));
  }
  // From here on the checkpoint is saved. What it replaced is removed only when that is certain.
  if (const absl::Status synced = SyncDirectory(directory); !synced.ok()) {
    warnings->push_back(absl::StrCat("it might not survive a power cut: ", synced.message()));
    return false;
  }
  if (!replaces) return true;
  const absl::Status removed = exchanged ? RemoveTree(from) : RemoveDisplaced(directory, step);
  if (!removed.ok()) {
    warnings->push_back(absl::StrCat("the checkpoint that it replaced could not be removed: ", removed.message()));
  }
  return true;
}

void PruneCheckpoints(const std::string& directory, int64_t keep_last, const std::vector<int64_t>& steps_to_keep,
                      std::vector<std::string>* warnings) {
  if (keep_last <= 0) return;
  const absl::StatusOr<Listing> listing = ListCheckpoints(directory);
  absl::Status status = listing.status();
  const int64_t excess = status.ok() ? static_cast<int64_t>(listing->complete.size()) - keep_last : 0;
  for (int64_t i = 0; i < excess && status.ok(); ++i) {
    const auto& [step, name] = listing->complete[i];
    if (std::find(steps_to_keep.begin(), steps_to_keep.end(), step) != steps_to_keep.end()) continue;
    // Renamed first, so that a kill half-way leaves a temporary and not a checkpoint with missing files.
    const std::string temporary = absl::StrCat(directory, "/", TemporaryName(step));
    status = RenamePath(absl::StrCat(directory, "/", name), temporary);
    if (status.ok()) status = RemoveTree(temporary);
  }
  if (!status.ok()) warnings->push_back(absl::StrCat("an old checkpoint could not be removed: ", status.message()));
}

absl::StatusOr<LatestCheckpoint> FindLatestCheckpoint(const std::string& directory) {
  LatestCheckpoint latest;
  ASSIGN_OR_RETURN(const bool exists, PathExists(directory));
  if (!exists) return latest;
  Listing listing;
  for (int look = 0; look == 0 || (listing.complete.empty() && listing.vanished && look < kLooksMax); ++look) {
    ASSIGN_OR_RETURN(listing, ListCheckpoints(directory));
  }
  if (!listing.complete.empty()) latest.path = absl::StrCat(directory, "/", listing.complete.back().second);
  latest.warning = absl::StrJoin(listing.warnings, "; ");
  return latest;
}

absl::StatusOr<std::vector<CompleteCheckpoint>> ListCompleteCheckpoints(const std::string& directory) {
  std::vector<CompleteCheckpoint> checkpoints;
  ASSIGN_OR_RETURN(const bool exists, PathExists(directory));
  if (!exists) return checkpoints;
  ASSIGN_OR_RETURN(const Listing listing, ListCheckpoints(directory));
  for (const auto& [step, name] : listing.complete) {
    checkpoints.push_back({step, absl::StrCat(directory, "/", name)});
  }
  return checkpoints;
}

absl::Status WithOlderCheckpoint(const absl::Status& error, const std::string& path) {
  constexpr int64_t kVerifiedBytesMax = int64_t{1} << 30;
  const std::optional<int64_t> refused = StepOfName(OwnName(path));
  if (error.ok() || !refused) return error;
  const std::string directory = ParentDirectory(path);
  const absl::StatusOr<Listing> listing = ListCheckpoints(directory);
  if (!listing.ok()) return error;
  for (auto it = listing->complete.rbegin(); it != listing->complete.rend(); ++it) {
    if (it->first >= *refused) continue;
    const absl::StatusOr<CheckpointReader> older = CheckpointReader::Open(absl::StrCat(directory, "/", it->second));
    if (!older.ok()) continue;
    int64_t bytes = 0;
    for (const ManifestRankFile& file : older->manifest().rank_files) bytes += file.bytes;
    const bool verified = bytes <= kVerifiedBytesMax;
    if (verified && !older->Verify().ok()) continue;
    return absl::Status(error.code(), absl::StrCat(error.message(), "; the checkpoint of step ", it->first,
                                                   verified ? " is whole" : " has all its files",
                                                   ": to go on from it, resume with --resume-from ", it->first));
  }
  return error;
}

absl::Status ReadCheckpointBesideRun(absl::FunctionRef<absl::StatusOr<std::string>()> find,
                                     absl::FunctionRef<absl::Status(const std::string& path)> read) {
  for (int look = 1;; ++look) {
    ASSIGN_OR_RETURN(const std::string path, find());
    const std::optional<FileIdentity> before = IdentityOf(path);
    const absl::Status status = read(path);
    if (status.ok() || look == kLooksMax || (before && before == IdentityOf(path))) return status;
  }
}

}  // namespace angel_ptm
