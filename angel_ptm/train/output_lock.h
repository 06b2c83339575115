// One run or other writer at a time in an output directory, and ranks that can all write there.
#ifndef ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_
#define ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_

#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Holds <directory>/lock, whose text names the holder (host, process, time), with a lock of the operating system, which
// ends with the process however it ends: a dead process's file is taken over. Released, the file goes, and so do the
// directories that Take made if nothing was put into them.
class OutputLock {
 public:
  // Makes the directory if need be. kFailedPrecondition naming the holder if another process has it, and `setting`, by
  // which one chooses another.
  static absl::StatusOr<OutputLock> Take(const std::string& directory, const char* setting = "output.directory");
  // Who has it, in the words of its file; empty if nobody has, or it cannot be told.
  static std::string Holder(const std::string& directory);
  OutputLock(OutputLock&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        path_(std::move(other.path_)),
        made_(std::move(other.made_)),
        note_(std::move(other.note_)) {}
  OutputLock& operator=(OutputLock&&) = delete;
  ~OutputLock();

  // To be called before the run writes there again: somebody may have removed the lock's file, or all of the directory,
  // and started another run. What nobody else has is taken again, once there is a directory. kFailedPrecondition naming
  // the holder if another run has it now: then this one must write nothing more.
  absl::Status Keep();

  // What its file says, empty if there was no room for it.
  std::string holder() const;
  // Empty, or one sentence: the lock was a dead process's, or the file system has no locks.
  const std::string& note() const { return note_; }

 private:
  OutputLock(int fd, std::string path, std::vector<std::string> made)
      : fd_(fd), path_(std::move(path)), made_(std::move(made)) {}

  int fd_;
  std::string path_;
  std::vector<std::string> made_;  // directories, innermost last
  std::string note_;
};

// That this rank can make a file in `directory` and remove it again. A directory that another machine has just made may
// be seen late: it is looked for during some seconds.
absl::Status CheckWritable(const std::string& directory, int rank);

// That `directory` is the one in which rank 0 has the lock with this holder(), and not another of the same name on
// another machine, where no checkpoint could be whole. `seconds`: to wait for a file that another machine has made.
absl::Status CheckShared(const std::string& directory, const std::string& holder, double seconds);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_OUTPUT_LOCK_H_
