#include "angel_ptm/train/output_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/file_sync.h"

namespace angel_ptm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPause(100);
constexpr int kTriesMax = 10;

// `directory` and its parents as far as they do not exist, outermost first.
absl::StatusOr<std::vector<std::string>> MissingDirectories(const std::string& directory) {
  std::vector<std::string> missing;
  for (std::string path = directory;; path = ParentDirectory(path)) {
    ASSIGN_OR_RETURN(const bool exists, PathExists(path));
    if (exists) break;
    missing.insert(missing.begin(), path);
  }
  return missing;
}

void RemoveIfEmpty(const std::vector<std::string>& directories) {
  for (auto it = directories.rbegin(); it != directories.rend(); ++it) rmdir(it->c_str());
}

std::string ThisHolder() {
  std::array<char, 256> host = {};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"?"};
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  std::array<char, 64> since = {};
  std::strftime(since.data(), since.size(), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &parts));
  return absl::StrCat("process ", getpid(), " on host ", host.data(), " since ", since.data());
}

std::string TextOf(int fd) {
  std::array<char, 512> text;
  const ssize_t bytes = pread(fd, text.data(), text.size(), 0);
  std::string line(text.data(), bytes > 0 ? static_cast<size_t>(bytes) : 0);
  if (const size_t end = line.find('\n'); end != std::string::npos) line.resize(end);
  return line;
}

// The holder named by a lock file; empty if it cannot be read.
std::string HolderIn(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string holder = TextOf(fd);
  close(fd);
  return holder;
}

bool IsStillAt(int fd, const std::string& path) {
  struct stat ours, there;
  return fstat(fd, &ours) == 0 && stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
         ours.st_dev == there.st_dev;
}

enum class Locking { kLocked, kHeld, kNoLocks };

// Locks the open file description, not the process: closing another descriptor of the file does not drop the lock.
absl::StatusOr<Locking> TryLock(int fd, const std::string& path) {
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  while (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EACCES) return Locking::kHeld;
    if (errno == ENOSYS || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOLCK) return Locking::kNoLocks;
    return FileError("lock", path, errno);
  }
  return Locking::kLocked;
}

absl::Status WriteHolder(int fd, const std::string& path) {
  const std::string line = ThisHolder() + "\n";
  // Synced, because a network file system may hold back what is written to a file that stays open.
  if (ftruncate(fd, 0) == 0 && pwrite(fd, line.data(), line.size(), 0) == static_cast<ssize_t>(line.size()) &&
      SyncFile(fd) == 0) {
    return absl::OkStatus();
  }
  return FileError("write", path, errno);
}

absl::Status InUse(const std::string& directory, const std::string& holder, const char* setting) {
  return absl::FailedPreconditionError(absl::StrCat(directory, " is in use by ",
                                                    holder.empty() ? "another run" : holder,
                                                    ": wait for it or stop it, or choose another ", setting));
}

}  // namespace

absl::StatusOr<OutputLock> OutputLock::Take(const std::string& directory, const char* setting) {
  ASSIGN_OR_RETURN(std::vector<std::string> made, MissingDirectories(directory));
  RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string path = directory + "/lock";
  for (int tries = 0;;) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
      const int why = errno;
      RemoveIfEmpty(made);
      return FileError("open", path, why);
    }
    const absl::StatusOr<Locking> locking = TryLock(fd, path);
    const std::string before = TextOf(fd);
    if (!locking.ok() || *locking == Locking::kHeld) {
      close(fd);
      RETURN_IF_ERROR(locking.status());
      // A process that was just killed may need a moment to go.
      if (++tries > kTriesMax) return InUse(directory, before, setting);
      std::this_thread::sleep_for(kPause);
      continue;
    }
    // The previous holder may have removed the file just before it was locked.
    if (!IsStillAt(fd, path)) {
      close(fd);
      continue;
    }
    OutputLock lock(fd, path, std::move(made));
    if (*locking == Locking::kNoLocks) {
      lock.note_ = absl::StrCat("warning: the file system of ", directory,
                                " does not support locks: nothing prevents a second run from writing there");
    } else if (!before.empty()) {
      lock.note_ = absl::StrCat("took over ", path, " of ", before, ", which has ended without removing it");
    }
    // The lock holds even if the disk is too full for its text.
    if (const absl::Status named = WriteHolder(fd, path); !named.ok()) {
      lock.note_ = absl::StrCat("warning: ", named.message(), "; the lock file does not name its holder");
    }
    return lock;
  }
}

std::string OutputLock::Holder(const std::string& directory) {
  const int fd = open((directory + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  const bool held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  const std::string holder = held ? TextOf(fd) : "";
  close(fd);
  return held && holder.empty() ? "another process" : holder;
}

std::string OutputLock::holder() const { return TextOf(fd_); }

absl::Status OutputLock::Keep() {
  if (IsStillAt(fd_, path_)) return absl::OkStatus();
  const std::string directory = ParentDirectory(path_);
  // If that cannot be determined, nothing can be written either. The next call checks again.
  const absl::StatusOr<bool> exists = PathExists(directory);
  if (!exists.ok() || !*exists) return absl::OkStatus();
  absl::StatusOr<OutputLock> again = Take(directory);
  if (again.ok()) std::swap(fd_, again->fd_);
  if (!absl::IsFailedPrecondition(again.status())) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the run has lost its output directory: its lock was removed, and ", again.status().message()));
}

OutputLock::~OutputLock() {
  if (fd_ < 0) return;
  // Removed while locked: if the name still leads to this file, nobody can have taken it in between.
  if (IsStillAt(fd_, path_)) unlink(path_.c_str());
  close(fd_);
  RemoveIfEmpty(made_);
}

absl::Status CheckWritable(const std::string& directory, int rank) {
  const std::string path = absl::StrCat(directory, "/write-test-of-rank-", rank);
  int fd = -1;
  for (int tries = 0; fd < 0 && tries < 50; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(kPause);
    fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 && errno != ENOENT) break;
  }
  if (fd < 0) return FileError("write", path, errno);
  close(fd);
  return RemoveFile(path);
}

absl::Status CheckShared(const std::string& directory, const std::string& holder, double seconds) {
  if (holder.empty()) return absl::OkStatus();
  const std::string path = directory + "/lock";
  std::string found = HolderIn(path);
  for (milliseconds waited(0); found.empty() && waited < std::chrono::duration<double>(seconds); waited += kPause) {
    std::this_thread::sleep_for(kPause);
    // Makes a network file system ask its server again. If that fails, the lock is not found either.
    ListDirectory(directory).status().IgnoreError();
    found = HolderIn(path);
  }
  if (found == holder) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(directory, " must be shared by all ranks, but here it is another than rank 0's: wanted ", path,
                   " of ", holder, ", got ", found.empty() ? "none" : absl::StrCat("that of ", found)));
}

}  // namespace angel_ptm
