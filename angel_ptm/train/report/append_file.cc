#include "angel_ptm/train/report/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {

absl::StatusOr<AppendFile> AppendFile::Open(const std::string& path) {
  RETURN_IF_ERROR(MakeDirectories(ParentDirectory(path)));
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return FileError("open", path, errno);
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end >= 0) return AppendFile(fd, end, path);
  const int why = errno;
  close(fd);
  return FileError("find the end of", path, why);
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status AppendFile::Append(std::string_view record) {
  struct stat info = {};
  if (fstat(fd_, &info) == 0 && info.st_nlink == 0) {
    return absl::NotFoundError(path_ + " was removed while it is written: what belongs there is lost");
  }
  waiting_.emplace_back(record);
  waiting_bytes_ += record.size();
  const auto drop_first = [&] {
    waiting_bytes_ -= waiting_.front().size();
    waiting_.pop_front();
  };
  absl::Status written;
  while (!waiting_.empty() && (written = Write(waiting_.front())).ok()) drop_first();
  for (; waiting_bytes_ > kWaitingBytesMax; drop_first()) ++dropped_;
  if (written.ok() || dropped_ == 0) return written;
  return absl::Status(written.code(), absl::StrCat(written.message(), "; ", dropped_, " records before are lost"));
}

absl::Status AppendFile::Write(std::string_view record) {
  for (size_t done = 0; done < record.size();) {
    const ssize_t n = pwrite(fd_, record.data() + done, record.size() - done, bytes_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      // If this fails, too, the next record overwrites what was written.
      if (ftruncate(fd_, bytes_) != 0) errno = 0;
      return FileError("write", path_, why);
    }
    done += static_cast<size_t>(n);
  }
  bytes_ += static_cast<int64_t>(record.size());
  return absl::OkStatus();
}

}  // namespace angel_ptm
