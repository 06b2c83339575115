#include "angel_ptm/checkpoint/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

// Offsets, lengths and addresses of O_DIRECT transfers; covers devices with 512-byte and 4 KiB sectors.
constexpr int64_t kDirectAlignment = 4096;

// std::string_view for absl's StrCat, which knows only its own on some distributions.
absl::string_view Text(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace

absl::Status FileError(std::string_view action, std::string_view path, int error_number) {
  const std::string message = absl::StrCat("cannot ", Text(action), " ", Text(path), ": ", strerror(error_number));
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
    default:
      return absl::DataLossError(message);
  }
}

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
  if (status.ok() && fsync(fd_) != 0) status = FileError("sync", path_, errno);
  const int closed = close(std::exchange(fd_, -1));
  if (status.ok() && closed != 0) status = FileError("close", path_, errno);
  return status;
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

FileReader::~FileReader() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileReader> FileReader::Open(std::string path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    const int error = errno;
    close(fd);
    return FileError("read the size of", path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
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

absl::Status WriteTextFile(const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create(path));
  RETURN_IF_ERROR(writer.Append(text));
  return writer.Finish();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t bytes_max) {
  ASSIGN_OR_RETURN(const FileReader reader, FileReader::Open(path));
  if (reader.size() > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", FormatBytes(reader.size()), ", at most ", FormatBytes(bytes_max), " expected"));
  }
  std::string text(static_cast<size_t>(reader.size()), '\0');
  RETURN_IF_ERROR(reader.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  // Some network file systems cannot sync a directory; their renames are durable by themselves.
  if (result != 0 && error != EINVAL) return FileError("sync", path, error);
  return absl::OkStatus();
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError("create the directory", path, error.value());
  return absl::OkStatus();
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return FileError("remove", path, error.value());
  return absl::OkStatus();
}

absl::Status RenamePath(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return FileError(absl::StrCat("rename ", from, " to"), to, errno);
  return absl::OkStatus();
}

bool PathExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator it(path, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return FileError("list", path, error.value());
  std::sort(names.begin(), names.end());
  return names;
}

std::string BaseName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace angel_ptm
