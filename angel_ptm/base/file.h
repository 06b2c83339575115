// Files and directories: every call that fails says which path, what was tried and what the system answered.
#ifndef ANGEL_PTM_BASE_FILE_H_
#define ANGEL_PTM_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// The status of a failed call on `path`: "cannot write run/a: No space left on device". kResourceExhausted for a full
// disk, quota or size limit, kNotFound for what is not there, kPermissionDenied, kAlreadyExists, kDataLoss for a device
// that cannot be read, else kUnknown.
absl::Status FileError(std::string_view action, std::string_view path, int error_number);

// What changes when a file's content is changed in place.
struct FileStamp {
  int64_t bytes = 0;
  int64_t modified_nanoseconds = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

// A regular file open for reading at any place; safe to use from several threads.
class FileReader {
 public:
  static absl::StatusOr<FileReader> Open(std::string path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  // Fills `out` from byte `offset`; a shorter file is an error.
  absl::Status ReadAt(int64_t offset, std::span<std::byte> out) const;
  // Of now.
  absl::StatusOr<FileStamp> Stamp() const;
  // When it was opened.
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  FileReader(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// The content of a regular file in a string of exactly its size; files above `bytes_max` are refused before reading.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max = int64_t{1} << 30);

// A file that appears under its name only when it is whole: written as <path>.tmp (what a dead process left there is
// replaced), synced, then renamed by Commit. If it is destroyed without Commit, the temporary file is removed.
class AtomicFile {
 public:
  // kFailedPrecondition where another process, or another AtomicFile, is writing the same path.
  static absl::StatusOr<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Append(const void* data, int64_t bytes);
  absl::Status Append(std::string_view text) { return Append(text.data(), static_cast<int64_t>(text.size())); }
  // Overwrites bytes already appended.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Syncs; nothing may be written any more. The file still has its temporary name: several files can so be finished
  // before any appears.
  absl::Status Close();
  // Close, then rename to the final name and sync the directory.
  absl::Status Commit();

  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int fd);

  std::string path_;
  std::string temporary_;  // empty once committed or moved from
  int fd_;                 // has the lock until the end
  bool is_closed_ = false;
  int64_t bytes_ = 0;
};

// AtomicFile with the whole content at once.
absl::Status WriteFile(const std::string& path, std::string_view content);

// Whether there is something of this name, a symbolic link that leads nowhere included. An error if that cannot be told
// (no permission, a device that fails, a loop of links): only "no such file" is no.
absl::StatusOr<bool> PathExists(const std::string& path);
// How long to look again for what another machine has made: a shared file system may show it seconds later.
struct Patience {
  double seconds = 0;                         // of waiting in all; 0 looks once
  std::function<void(double seconds)> sleep;  // null: of this thread
};
// Whether PathExists within that time. Before every look the folder above is listed, so that a network file system asks
// its server again.
absl::StatusOr<bool> PathAppears(const std::string& path, const Patience& patience);
// Names in a directory, sorted.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
// Makes the directory and those above it that are missing, each durably.
absl::Status MakeDirectories(const std::string& path);
// Makes the entries of a directory durable.
absl::Status SyncDirectory(const std::string& path);
// Removes a file; a missing one is fine.
absl::Status RemoveFile(const std::string& path);
// Removes a directory and all below it; a missing one is fine.
absl::Status RemoveTree(const std::string& path);
absl::Status RenamePath(const std::string& from, const std::string& to);

// "a/b.json" and "a/b/" -> "a", "b" -> ".", "/b" -> "/".
std::string ParentDirectory(std::string_view path);
// "a/b.json" and "a/b.json/" -> "b.json", "/" -> "".
std::string OwnName(std::string_view path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_H_
