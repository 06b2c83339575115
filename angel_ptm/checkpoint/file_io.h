// Files and directories for checkpoints: every call that fails says which path, what was tried and what the system
// answered. Disk full and quota errors come back as kResourceExhausted, missing files as kNotFound.
#ifndef ANGEL_PTM_CHECKPOINT_FILE_IO_H_
#define ANGEL_PTM_CHECKPOINT_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// An error about `path` with the text of `error_number`, e.g. "cannot write run/a: No space left on device".
absl::Status FileError(std::string_view action, std::string_view path, int error_number);

// Appends to a new file through one 4 MiB buffer. Whole buffers bypass the page cache (O_DIRECT) where the file system
// allows it: a checkpoint is not read again by this run, and filling the page cache with it was measured slower than
// writing around it. The file is removed by whoever owns its directory; this class only closes it.
class FileWriter {
 public:
  static constexpr int64_t kBufferBytes = int64_t{4} << 20;

  // Fails if `path` exists.
  static absl::StatusOr<FileWriter> Create(std::string path);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();

  absl::Status Append(std::span<const std::byte> bytes);
  absl::Status Append(std::string_view text) { return Append(std::as_bytes(std::span(text))); }
  // Writes what is buffered and waits until the file is on disk. The file is closed whatever the result.
  absl::Status Finish();
  int64_t bytes() const { return bytes_; }

 private:
  FileWriter(std::string path, int fd, bool direct);
  absl::Status WriteAll(const std::byte* data, int64_t n);

  struct FreeBuffer {
    void operator()(std::byte* p) const;
  };
  std::string path_;
  int fd_ = -1;
  bool direct_ = false;
  std::unique_ptr<std::byte[], FreeBuffer> buffer_;
  int64_t filled_ = 0, bytes_ = 0;
};

// A file open for reading at any place; safe to use from several threads.
class FileReader {
 public:
  static absl::StatusOr<FileReader> Open(std::string path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  // Fills `out` from byte `offset`; a shorter file is an error.
  absl::Status ReadAt(int64_t offset, std::span<std::byte> out) const;
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  FileReader(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// A new file with this text, on disk when it returns.
absl::Status WriteTextFile(const std::string& path, std::string_view text);
// The whole file; files above `bytes_max` are refused.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t bytes_max = int64_t{1} << 30);

// Makes the entries of a directory durable.
absl::Status SyncDirectory(const std::string& path);
absl::Status MakeDirectories(const std::string& path);
// Removes a directory and all below it; a missing one is fine.
absl::Status RemoveTree(const std::string& path);
absl::Status RenamePath(const std::string& from, const std::string& to);
bool PathExists(const std::string& path);
// Names in a directory, sorted.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
// "a/b.json" -> "b.json".
std::string BaseName(std::string_view path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_FILE_IO_H_
