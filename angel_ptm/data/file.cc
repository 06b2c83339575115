#include "angel_ptm/data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

absl::Status FileError(std::string_view action, const std::string& path, int error_number) {
  const std::string text = absl::StrCat("cannot ", std::string(action), " ", path, ": ", std::strerror(error_number));
  if (error_number == ENOENT) return absl::NotFoundError(text);
  if (error_number == ENOSPC || error_number == EDQUOT) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  struct stat info;
  std::string content;
  int error = fstat(fd, &info) < 0 ? errno : S_ISDIR(info.st_mode) ? EISDIR : 0;
  if (error == 0 && S_ISREG(info.st_mode)) content.resize(info.st_size);
  size_t filled = 0;
  while (error == 0) {
    // Pipes and files that grow have more than their size says.
    if (filled == content.size()) content.resize(filled + (filled == 0 ? 1 << 16 : 1));
    const ssize_t got = read(fd, content.data() + filled, content.size() - filled);
    if (got < 0 && errno != EINTR) error = errno;
    if (got == 0) break;
    if (got > 0) filled += got;
    if (filled == content.size()) content.resize(filled + (1 << 16));
  }
  close(fd);
  if (error != 0) return FileError("read", path, error);
  content.resize(filled);
  return content;
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, std::string())),
      fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  std::string temporary = absl::StrCat(path, ".tmp");
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("create", temporary, errno);
  return AtomicFile(path, std::move(temporary), fd);
}

absl::Status AtomicFile::Append(const void* data, int64_t bytes) {
  RETURN_IF_ERROR(WriteAt(bytes_, data, bytes));
  bytes_ += bytes;
  return absl::OkStatus();
}

absl::Status AtomicFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  APTM_CHECK(fd_ >= 0, path_, " is closed");
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = pwrite(fd_, p, bytes, offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return FileError("write", temporary_, errno);
    p += done;
    offset += done;
    bytes -= done;
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Close() {
  if (fd_ < 0) return absl::OkStatus();
  if (fsync(fd_) < 0) return FileError("sync", temporary_, errno);
  if (close(std::exchange(fd_, -1)) < 0) return FileError("close", temporary_, errno);
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  RETURN_IF_ERROR(Close());
  if (std::rename(temporary_.c_str(), path_.c_str()) < 0) return FileError("rename to", path_, errno);
  temporary_.clear();
  // Without this a power cut could undo the rename.
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  const char* const folder = parent.empty() ? "." : parent.c_str();
  const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open", folder, errno);
  const int error = fsync(fd) < 0 ? errno : 0;
  close(fd);
  // Some file systems cannot sync folders and say EINVAL.
  if (error != 0 && error != EINVAL) return FileError("sync", folder, error);
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, std::string_view content) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(content));
  return file.Commit();
}

}  // namespace angel_ptm
