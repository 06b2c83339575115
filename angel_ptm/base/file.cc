#include "angel_ptm/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file_sync.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {

int SyncFile(int fd) {
  int result = 0;
  do {
    result = fsync(fd);
  } while (result < 0 && errno == EINTR);
  return result;
}

absl::Status FileError(std::string_view action, std::string_view path, int error_number) {
  const std::string message =
      absl::StrCat("cannot ", std::string(action), " ", std::string(path), ": ", std::strerror(error_number));
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EIO:
      return absl::DataLossError(message);
    default:
      return absl::UnknownError(message);
  }
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

FileReader::~FileReader() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileReader> FileReader::Open(std::string path) {
  // O_NONBLOCK: open() must not block on a named pipe, which is refused below.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError("open", path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    const int error = errno;
    close(fd);
    return FileError("read the size of", path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(
        absl::StrCat(path, S_ISDIR(info.st_mode) ? " is a directory, not a file" : " is not a regular file"));
  }
  return FileReader(std::move(path), fd, info.st_size);
}

absl::Status FileReader::ReadAt(int64_t offset, std::span<std::byte> out) const {
  const int64_t wanted = static_cast<int64_t>(out.size());
  int64_t got = 0;
  while (got < wanted) {
    const ssize_t n = pread(fd_, out.data() + got, static_cast<size_t>(wanted - got), offset + got);
    if (n < 0) {
      if (errno == EINTR) continue;
      return FileError("read", path_, errno);
    }
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path_, " ends at byte ", offset + got, ", wanted ", wanted,
                                              " bytes from byte ", offset, ": it is truncated"));
    }
    got += n;
  }
  return absl::OkStatus();
}

absl::StatusOr<FileStamp> FileReader::Stamp() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return FileError("read the size of", path_, errno);
  return FileStamp{info.st_size, int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t bytes_max) {
  ASSIGN_OR_RETURN(const FileReader reader, FileReader::Open(path));
  if (reader.size() > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", FormatBytes(reader.size()), ", at most ", FormatBytes(bytes_max), " expected"));
  }
  std::string content(static_cast<size_t>(reader.size()), '\0');
  RETURN_IF_ERROR(reader.ReadAt(0, std::as_writable_bytes(std::span(content))));
  return content;
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, std::string())),
      fd_(std::exchange(other.fd_, -1)),
      is_closed_(other.is_closed_),
      bytes_(other.bytes_) {}

AtomicFile::~AtomicFile() {
  // Unlink before closing: once the lock is released, the name may belong to another process.
  if (!temporary_.empty()) unlink(temporary_.c_str());
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  for (;;) {
    const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return FileError("create", temporary, errno);
    AtomicFile file(path, /*temporary=*/"", fd);
    // Some network file systems have no locks; there the callers must not write one file from two processes.
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(
          absl::StrCat("cannot write ", path, ": another process is writing it, as ", temporary));
    }
    // The previous lock holder may have renamed or removed the file before it released the lock.
    struct stat mine, named;
    if (fstat(fd, &mine) != 0) return FileError("look at", temporary, errno);
    if (stat(temporary.c_str(), &named) != 0 || mine.st_dev != named.st_dev || mine.st_ino != named.st_ino) continue;
    if (ftruncate(fd, 0) != 0) return FileError("empty", temporary, errno);
    file.temporary_ = temporary;
    return file;
  }
}

absl::Status AtomicFile::Append(const void* data, int64_t bytes) {
  RETURN_IF_ERROR(WriteAt(bytes_, data, bytes));
  bytes_ += bytes;
  return absl::OkStatus();
}

absl::Status AtomicFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  APTM_CHECK(!is_closed_, path_, " is closed");
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = pwrite(fd_, p, static_cast<size_t>(bytes), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return FileError("write", temporary_, errno);
    p += done;
    offset += done;
    bytes -= done;
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Close() {
  if (is_closed_) return absl::OkStatus();
  if (SyncFile(fd_) < 0) return FileError("sync", temporary_, errno);
  is_closed_ = true;
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  RETURN_IF_ERROR(Close());
  RETURN_IF_ERROR(RenamePath(temporary_, path_));
  temporary_.clear();
  // Without this a power cut could undo the rename.
  return SyncDirectory(ParentDirectory(path_));
}

absl::Status WriteFile(const std::string& path, std::string_view content) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(content));
  return file.Commit();
}

absl::StatusOr<bool> PathExists(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return FileError("look for", path, errno);
}

absl::StatusOr<bool> PathAppears(const std::string& path, const Patience& patience) {
  double pause = 0.05;
  for (double waited = 0;; waited += pause, pause = std::min(2 * pause, 1.0)) {
    ASSIGN_OR_RETURN(const bool exists, PathExists(path));
    if (exists || waited >= patience.seconds) return exists;
    pause = std::min(pause, patience.seconds - waited);
    if (patience.sleep) {
      patience.sleep(pause);
    } else {
      std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    }
    // The names do not matter. If the listing fails for a reason that matters, the next look reports it.
    ListDirectory(ParentDirectory(path)).status().IgnoreError();
  }
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator it(path, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return FileError("list the directory", path, error.value());
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MakeDirectories(const std::string& path) {
  size_t end = 0;
  do {
    end = std::min(path.find('/', end + 1), path.size());
    const std::string level = path.substr(0, end);
    if (mkdir(level.c_str(), 0777) == 0) {
      // The new entry is in the parent directory.
      RETURN_IF_ERROR(SyncDirectory(ParentDirectory(level)));
      continue;
    }
    // Usually the directory exists; a read-only file system may report that error instead.
    const int error = errno;
    struct stat info;
    if (stat(level.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return FileError("create the directory", level, error);
    }
  } while (end < path.size());
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open the directory", path, errno);
  const int error = SyncFile(fd) == 0 ? 0 : errno;
  close(fd);
  // Some network file systems cannot sync a directory; their renames are durable anyway.
  if (error != 0 && error != EINVAL) return FileError("sync the directory", path, error);
  return absl::OkStatus();
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return FileError("remove", path, errno);
  return absl::OkStatus();
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return FileError("remove", path, error.value());
  return absl::OkStatus();
}

absl::Status RenamePath(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return FileError(absl::StrCat("rename ", from, " to"), to, errno);
  return absl::OkStatus();
}

std::string ParentDirectory(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

std::string OwnName(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
}

}  // namespace angel_ptm
