// Files and directories. The error of a failed call names the path, the attempted action and the system's answer.
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

// The status of a failed call on `path`: "cannot write run/a: No space left on device". The code is kResourceExhausted
// for a full disk, an exceeded quota or a size limit, kNotFound for a missing path, kPermissionDenied, kAlreadyExists,
// kDataLoss for an I/O error of the device, and kUnknown otherwise.
absl::Status FileError(std::string_view action, std::string_view path, int error_number);

// Metadata that changes when a file's content is changed in place.
struct FileStamp {
  int64_t bytes = 0;
  int64_t modified_nanoseconds = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

// A regular file open for reading at any offset. Thread-safe.
class FileReader {
 public:
  static absl::StatusOr<FileReader> Open(std::string path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  // Fills `out` from byte `offset`; a shorter file is an error.
  absl::Status ReadAt(int64_t offset, std::span<std::byte> out) const;
  // The file's current stamp.
  absl::StatusOr<FileStamp> Stamp() const;
  // The size when the file was opened.
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  FileReader(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// Returns the content of a regular file. Files larger than `bytes_max` are refused before reading.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max = int64_t{1} << 30);

// A file that appears under its name only once it is complete. It is written as <path>.tmp (replacing what a dead
// process left there), synced, and renamed by Commit. The destructor removes a temporary file that Commit has not
// renamed.
class AtomicFile {
 public:
  // kFailedPrecondition if another process, or another AtomicFile, is writing the same path.
  static absl::StatusOr<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Append(const void* data, int64_t bytes);
  absl::Status Append(std::string_view text) { return Append(text.data(), static_cast<int64_t>(text.size())); }
  // Overwrites bytes already appended.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Syncs the file, after which nothing may be written to it. The file keeps its temporary name, so that several files
  // can be completed before any of them appears.
  absl::Status Close();
  // Closes the file, renames it to its final name and syncs the directory.
  absl::Status Commit();

  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int fd);

  std::string path_;
  std::string temporary_;  // empty once committed or moved from
  int fd_;                 // holds the lock until closed by the destructor
  bool is_closed_ = false;
  int64_t bytes_ = 0;
};

// Writes `content` through an AtomicFile.
absl::Status WriteFile(const std::string& path, std::string_view content);

// Whether anything has this name, including a dangling symbolic link. Returns an error if the answer is unknown (no
// permission, a failing device, a loop of links): only "no such file" counts as false.
absl::StatusOr<bool> PathExists(const std::string& path);
// How long to keep looking for a path that another machine has created: a shared file system may show it seconds later.
struct Patience {
  double seconds = 0;                         // total waiting time; 0 looks once
  std::function<void(double seconds)> sleep;  // null: sleeps on this thread
};
// Whether PathExists becomes true within that time. Before every further look the parent directory is listed, so that a
// network file system asks its server again.
absl::StatusOr<bool> PathAppears(const std::string& path, const Patience& patience);
// The names in a directory, sorted.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
// Creates the directory and its missing parents, each of them durably.
absl::Status MakeDirectories(const std::string& path);
// Makes the entries of a directory durable.
absl::Status SyncDirectory(const std::string& path);
// Removes a file; a missing one is fine.
absl::Status RemoveFile(const std::string& path);
// Removes a directory and everything below it; a missing one is fine.
absl::Status RemoveTree(const std::string& path);
absl::Status RenamePath(const std::string& from, const std::string& to);

// "a/b.json" and "a/b/" -> "a", "b" -> ".", "/b" -> "/".
std::string ParentDirectory(std::string_view path);
// "a/b.json" and "a/b.json/" -> "b.json", "/" -> "".
std::string OwnName(std::string_view path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_H_
