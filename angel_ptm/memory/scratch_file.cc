#include "angel_ptm/memory/scratch_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/block_file.h"

namespace angel_ptm {
namespace {

std::string Refusal(const ScratchFile::Options& options, std::string_view why) {
  return absl::StrCat("cannot keep ", options.name, " in ", options.directory, ": ", std::string(why));
}

absl::Status RefusalOfErrno(const ScratchFile::Options& options, int error) {
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(Refusal(options, "there is no such directory"));
    case ENOTDIR:
      return absl::NotFoundError(Refusal(options, "it is not a directory"));
    case EROFS:
      return absl::PermissionDeniedError(Refusal(options, "the file system is read-only"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(Refusal(options, "no permission to make files there"));
    case ENOSPC:
      return absl::ResourceExhaustedError(Refusal(options, "the file system is full"));
    case EDQUOT:
      return absl::ResourceExhaustedError(Refusal(options, "the quota is used up"));
    default:
      return absl::UnknownError(Refusal(options, std::strerror(error)));
  }
}

absl::Status NoRoom(const ScratchFile::Options& options, int64_t available, std::string_view of_what) {
  return absl::ResourceExhaustedError(
      Refusal(options, absl::StrCat(options.bytes, " bytes (", FormatBytes(options.bytes), ") wanted, ", available,
                                    " (", FormatBytes(available), ") ", std::string(of_what))));
}

absl::Status NoDirectIo(const ScratchFile::Options& options, std::string_view why) {
  return absl::FailedPreconditionError(
      Refusal(options, absl::StrCat(std::string(why), "; choose a directory on a drive or allow buffered I/O")));
}

int OpenNamed(const std::string& directory, int flags) {
  std::string path = absl::StrCat(directory, "/.angel-ptm-XXXXXX");
  const int fd = mkostemp(path.data(), flags);
  if (fd >= 0) unlink(path.c_str());
  return fd;
}

// Returns an open descriptor, or -1 and errno.
int OpenScratch(const ScratchFile::Options& options, int flags) {
  flags |= O_CLOEXEC;
  if (!options.use_name) {
    const int fd = open(options.directory.c_str(), O_TMPFILE | O_RDWR | flags, 0600);
    // Kernels and file systems without unnamed files return one of these.
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  }
  return OpenNamed(options.directory, flags);
}

// Some file systems accept the flag and refuse the transfers.
bool CanReadDirectly(int fd) {
  const std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(kFileAlignment, kFileAlignment),
                                                          &std::free);
  ssize_t n;
  do {
    n = pread(fd, block.get(), kFileAlignment, 0);
  } while (n < 0 && errno == EINTR);
  return n == kFileAlignment;
}

absl::Status Reserve(const ScratchFile::Options& options, int fd) {
  // Checked first: a limit on file sizes is reported by a signal, and a file system fills all of its room before it
  // refuses.
  rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      limit.rlim_cur < static_cast<rlim_t>(options.bytes)) {
    return NoRoom(options, static_cast<int64_t>(limit.rlim_cur), "allowed by the limit on file sizes (ulimit -f)");
  }
  struct statfs room;
  const auto available = [&] { return static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize); };
  if (fstatfs(fd, &room) == 0 && room.f_blocks > 0 && available() < options.bytes) {
    return NoRoom(options, available(), "available");
  }
  int error;
  do {
    error = fallocate(fd, 0, 0, options.bytes) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == 0) return absl::OkStatus();
  if (error == ENOSPC && ftruncate(fd, 0) == 0 && fstatfs(fd, &room) == 0) {
    return NoRoom(options, available(), "available");
  }
  if (error == EOPNOTSUPP) {
    return absl::FailedPreconditionError(Refusal(options, "its file system cannot reserve room (fallocate)"));
  }
  return RefusalOfErrno(options, error);
}

// For a directory that exists.
absl::Status CannotMakeFiles(const ScratchFile::Options& options, int error) {
  if (error == ENOENT) return absl::FailedPreconditionError(Refusal(options, "its file system takes no new files"));
  return RefusalOfErrno(options, error);
}

}  // namespace

ScratchFile::~ScratchFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<ScratchFile> ScratchFile::Create(const Options& options) {
  APTM_CHECK(options.bytes > 0 && options.bytes % kFileAlignment == 0, options.bytes);
  struct statfs system;
  if (statfs(options.directory.c_str(), &system) != 0) return RefusalOfErrno(options, errno);
  // New kernels grant direct I/O on tmpfs, too.
  const bool memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
  if (memory && !options.allow_buffered) {
    return NoDirectIo(options, "it is on tmpfs, whose files take memory and know no direct I/O (O_DIRECT)");
  }
  int fd = memory ? -1 : OpenScratch(options, O_DIRECT);
  if (memory || (fd < 0 && errno == EINVAL)) {
    fd = OpenScratch(options, 0);
    if (fd < 0) return CannotMakeFiles(options, errno);
    ScratchFile file(fd, /*direct=*/false);
    if (!options.allow_buffered) return NoDirectIo(options, "its file system has no direct I/O (O_DIRECT)");
    RETURN_IF_ERROR(Reserve(options, fd));
    return file;
  }
  if (fd < 0) return CannotMakeFiles(options, errno);
  ScratchFile file(fd, /*direct=*/true);
  RETURN_IF_ERROR(Reserve(options, fd));
  if (CanReadDirectly(fd)) return file;
  if (!options.allow_buffered) return NoDirectIo(options, "its file system has no direct I/O (O_DIRECT)");
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) != 0) return RefusalOfErrno(options, errno);
  file.direct_ = false;
  return file;
}

}  // namespace angel_ptm
