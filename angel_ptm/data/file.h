// Whole files in, finished files out.
#ifndef ANGEL_PTM_DATA_FILE_H_
#define ANGEL_PTM_DATA_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace angel_ptm {

// The status of a failed call on `path`: "cannot <action> <path>: <why>". NotFound for a missing file,
// ResourceExhausted for a full disk, otherwise Internal.
absl::Status FileError(std::string_view action, const std::string& path, int error_number);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// A file that appears under its name only when it is whole: written as <path>.tmp, synced, then renamed by Commit. If
// it is destroyed without Commit, the temporary file is removed.
class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Append(const void* data, int64_t bytes);
  absl::Status Append(std::string_view text) { return Append(text.data(), static_cast<int64_t>(text.size())); }
  // Overwrites bytes already appended.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Syncs and closes; the file still has its temporary name. Several files can so be finished before any appears.
  absl::Status Close();
  // Close, then rename to the final name and sync the folder.
  absl::Status Commit();

  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int fd);

  std::string path_;
  std::string temporary_;  // empty once committed or moved from
  int fd_;
  int64_t bytes_ = 0;
};

// AtomicFile with the whole content at once.
absl::Status WriteFile(const std::string& path, std::string_view content);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_FILE_H_
