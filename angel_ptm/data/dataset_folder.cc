#include "angel_ptm/data/dataset_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {
namespace {

std::string Unfinished(const std::string& folder) { return absl::StrCat(folder, "/.unfinished"); }
std::string Whole(const std::string& folder) { return absl::StrCat(folder, "/.whole"); }
std::string Below(const std::string& folder, std::string_view name) {
  return absl::StrCat(folder, "/", std::string(name));
}

// Moves the files in .whole to their places. Does nothing if there is no .whole.
absl::Status TakePlaces(const std::string& folder) {
  const std::string whole = Whole(folder);
  ASSIGN_OR_RETURN(const bool waits, PathExists(whole));
  if (!waits) return absl::OkStatus();
  for (const std::string_view name : kDatasetFiles) {
    ASSIGN_OR_RETURN(const bool exists, PathExists(Below(whole, name)));
    if (exists) RETURN_IF_ERROR(RenamePath(Below(whole, name), Below(folder, name)));
  }
  RETURN_IF_ERROR(SyncDirectory(folder));
  return RemoveTree(whole);
}

}  // namespace

absl::StatusOr<std::string> DatasetFilePath(const std::string& folder, std::string_view name) {
  const std::string waiting = Below(Whole(folder), name);
  ASSIGN_OR_RETURN(const bool waits, PathExists(waiting));
  return waits ? waiting : Below(folder, name);
}

absl::StatusOr<UnfinishedDataset> UnfinishedDataset::Create(const std::string& folder) {
  RETURN_IF_ERROR(MakeDirectories(folder));
  const int lock = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0) return FileError("open the folder", folder, errno);
  // Some network file systems cannot lock a folder. There two processes must not write to one concurrently.
  if (flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(lock);
    return absl::FailedPreconditionError(
        absl::StrCat("another angel-ptm prepare is writing to ", folder, ": wait for it, or choose another folder"));
  }
  UnfinishedDataset dataset(folder, lock);
  RETURN_IF_ERROR(TakePlaces(folder));
  RETURN_IF_ERROR(RemoveTree(Unfinished(folder)));
  // Left by a killed process that was writing dataset version 1.
  for (const std::string_view name : kDatasetFiles) {
    RETURN_IF_ERROR(RemoveFile(absl::StrCat(Below(folder, name), ".tmp")));
  }
  RETURN_IF_ERROR(MakeDirectories(Unfinished(folder)));
  return dataset;
}

UnfinishedDataset::UnfinishedDataset(UnfinishedDataset&& other) noexcept
    : folder_(std::exchange(other.folder_, std::string())), lock_(std::exchange(other.lock_, -1)) {}

UnfinishedDataset::~UnfinishedDataset() {
  if (!folder_.empty()) RemoveTree(Unfinished(folder_)).IgnoreError();
  if (lock_ >= 0) close(lock_);
}

std::string UnfinishedDataset::Path(std::string_view name) const { return Below(Unfinished(folder_), name); }

absl::Status UnfinishedDataset::Publish() {
  RETURN_IF_ERROR(SyncDirectory(Unfinished(folder_)));
  RETURN_IF_ERROR(RenamePath(Unfinished(folder_), Whole(folder_)));
  const std::string folder = std::exchange(folder_, std::string());
  absl::Status placed = SyncDirectory(folder);
  if (placed.ok()) placed = TakePlaces(folder);
  if (placed.ok()) return placed;
  return absl::Status(placed.code(), absl::StrCat("the new dataset in ", folder,
                                                  " is whole and is read from now on, but its files are still in ",
                                                  Whole(folder), ": ", placed.message()));
}

}  // namespace angel_ptm
