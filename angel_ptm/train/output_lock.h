// Keeps an output directory to one run or other writer at a time, and checks that all ranks can write there.
#ifndef ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_
#define ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_

#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Holds <directory>/lock, whose text names the holder (host, process, time), under a lock of the operating system. That
// lock ends with the process, however it ends, so the file of a dead process can be taken over. Destruction removes the
// file, and also the directories that Take made, if they are still empty.
class OutputLock {
 public:
  // Makes the directory if needed. If another process holds it, returns kFailedPrecondition naming that holder and
  // `setting`, the setting with which the user chooses another directory.
  static absl::StatusOr<OutputLock> Take(const std::string& directory, const char* setting = "output.directory");
  // Returns the current holder in the words of its lock file; empty if there is none, or it cannot be determined.
  static std::string Holder(const std::string& directory);
  OutputLock(OutputLock&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        path_(std::move(other.path_)),
        made_(std::move(other.made_)),
        note_(std::move(other.note_)) {}
  OutputLock& operator=(OutputLock&&) = delete;
  ~OutputLock();

  // Call this before the run writes to the directory again: somebody may have removed the lock file or the whole
  // directory and started another run. If nobody else holds the lock and the directory exists, takes it again. Returns
  // kFailedPrecondition naming the holder if another run holds it now; this run must then write nothing more.
  absl::Status Keep();

  // The text of the lock file; empty if it could not be written.
  std::string holder() const;
  // Empty, or one sentence: the lock was taken over from a dead process, or the file system has no locks.
  const std::string& note() const { return note_; }

 private:
  OutputLock(int fd, std::string path, std::vector<std::string> made)
      : fd_(fd), path_(std::move(path)), made_(std::move(made)) {}

  int fd_;
  std::string path_;
  std::vector<std::string> made_;  // directories, innermost last
  std::string note_;
};

// Checks that this rank can create a file in `directory` and remove it. A directory that another machine has just made
// may become visible late, so this waits some seconds for it.
absl::Status CheckWritable(const std::string& directory, int rank);

// Checks that `directory` is the one that rank 0 has locked with this holder(), and not another directory of the same
// name on another machine; in that case no checkpoint could be complete. `seconds`: how long to wait for a lock file
// that another machine has made.
absl::Status CheckShared(const std::string& directory, const std::string& holder, double seconds);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_
