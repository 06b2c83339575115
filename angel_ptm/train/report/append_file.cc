#include "angel_ptm/train/report/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

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
  unwritten_ += record;
  for (size_t done = 0; done < unwritten_.size();) {
    const ssize_t n =
        pwrite(fd_, unwritten_.data() + done, unwritten_.size() - done, bytes_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      // If even this fails, the next record overwrites what is there.
      if (ftruncate(fd_, bytes_) != 0) errno = 0;
      return FileError("write", path_, why);
    }
    done += static_cast<size_t>(n);
  }
  bytes_ += static_cast<int64_t>(unwritten_.size());
  unwritten_.clear();
  return absl::OkStatus();
}

}  // namespace angel_ptm
