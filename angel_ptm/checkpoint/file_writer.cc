#include "angel_ptm/checkpoint/file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/file_sync.h"

namespace angel_ptm {
namespace {

// The alignment of offsets, lengths and addresses of O_DIRECT transfers; covers devices with 512-byte and 4 KiB
// sectors.
constexpr int64_t kDirectAlignment = 4096;

}  // namespace

void FileWriter::FreeBuffer::operator()(std::byte* p) const { std::free(p); }

FileWriter::FileWriter(std::string path, int fd, bool direct)
    : path_(std::move(path)),
      fd_(fd),
      direct_(direct),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kBufferBytes))) {
  APTM_CHECK(buffer_ != nullptr, "no memory for a write buffer");
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      direct_(other.direct_),
      buffer_(std::move(other.buffer_)),
      filled_(other.filled_),
      bytes_(other.bytes_) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileWriter> FileWriter::Create(std::string path) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  int fd = open(path.c_str(), kFlags | O_DIRECT, 0666);
  bool direct = fd >= 0;
  if (fd < 0 && errno == EINVAL) {  // some file systems have no O_DIRECT (and may have created the file already)
    fd = open(path.c_str(), kFlags & ~O_EXCL, 0666);
  }
  if (fd < 0) return FileError("create", path, errno);
  return FileWriter(std::move(path), fd, direct);
}

absl::Status FileWriter::WriteAll(const std::byte* data, int64_t n) {
  while (n > 0) {
    const ssize_t done = write(fd_, data, static_cast<size_t>(n));
    if (done < 0) {
      if (errno == EINTR) continue;
      return FileError("write", path_, errno);
    }
    data += done;
    n -= done;
    // After a short transfer the rest is no longer aligned.
    if (direct_ && done % kDirectAlignment != 0) {
      if (fcntl(fd_, F_SETFL, 0) != 0) return FileError("write", path_, errno);
      direct_ = false;
    }
  }
  return absl::OkStatus();
}

absl::Status FileWriter::Append(std::span<const std::byte> bytes) {
  APTM_CHECK(fd_ >= 0, "Append to a finished file ", path_);
  while (!bytes.empty()) {
    const int64_t n = std::min<int64_t>(kBufferBytes - filled_, static_cast<int64_t>(bytes.size()));
    std::memcpy(buffer_.get() + filled_, bytes.data(), static_cast<size_t>(n));
    filled_ += n;
    bytes_ += n;
    bytes = bytes.subspan(static_cast<size_t>(n));
    if (filled_ == kBufferBytes) {
      RETURN_IF_ERROR(WriteAll(buffer_.get(), filled_));
      filled_ = 0;
    }
  }
  return absl::OkStatus();
}

absl::Status FileWriter::Finish() {
  APTM_CHECK(fd_ >= 0, "Finish of a finished file ", path_);
  absl::Status status;
  if (direct_ && fcntl(fd_, F_SETFL, 0) != 0) status = FileError("write", path_, errno);
  direct_ = false;
  if (status.ok()) status = WriteAll(buffer_.get(), filled_);
  filled_ = 0;
  if (status.ok() && SyncFile(fd_) != 0) status = FileError("sync", path_, errno);
  // A close that a signal interrupts closes the file all the same, and the file was synced before.
  const bool closed = close(std::exchange(fd_, -1)) == 0 || errno == EINTR;
  if (status.ok() && !closed) status = FileError("close", path_, errno);
  return status;
}

}  // namespace angel_ptm
