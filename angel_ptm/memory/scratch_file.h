// A file without a name: it is gone when its last descriptor is closed, so that a kill leaves nothing behind.
#ifndef ANGEL_PTM_MEMORY_SCRATCH_FILE_H_
#define ANGEL_PTM_MEMORY_SCRATCH_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

class ScratchFile {
 public:
  struct Options {
    std::string directory;  // must exist
    std::string name;       // in messages
    int64_t bytes = 0;
    bool allow_buffered = false;  // use the page cache where there is no direct I/O, instead of refusing
    bool use_name = false;        // as on systems without unnamed files: a random name, removed immediately
  };
  // Creates a file of `bytes` bytes whose room is reserved, so that the disk cannot fill up under it. Errors are one
  // sentence that names the file and the directory: kNotFound, kPermissionDenied (also a read-only file system),
  // kResourceExhausted (with the bytes wanted and available), kFailedPrecondition for what the file system does not
  // offer: direct I/O (also on tmpfs, where the kernel may grant it but files are memory), reserved room.
  static absl::StatusOr<ScratchFile> Create(const Options& options);

  ScratchFile(ScratchFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)), direct_(other.direct_) {}
  ScratchFile& operator=(ScratchFile&&) = delete;
  ~ScratchFile();

  int fd() const { return fd_; }
  // Whether transfers bypass the page cache.
  bool direct() const { return direct_; }
  const char* cache_description() const { return direct_ ? "direct I/O" : "through the page cache"; }

 private:
  ScratchFile(int fd, bool direct) : fd_(fd), direct_(direct) {}

  int fd_;
  bool direct_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_SCRATCH_FILE_H_
