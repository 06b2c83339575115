#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Open(const std::string& path, int64_t bytes) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  // Reserving the space turns a full /dev/shm into an error here instead of a SIGBUS at the first touch.
  int error;
  do {
    error = posix_fallocate(file, 0, bytes);
  } while (error == EINTR);
  void* data =
      error == 0 ? mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  const int reason = error != 0 ? error : errno;
  close(file);
  if (data == MAP_FAILED) {
    // It would hold memory until the machine restarts: the run that failed here will not call Unlink.
    unlink(path.c_str());
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot reserve ", bytes, " bytes of shared memory in ", path, ": ", std::strerror(reason)));
  }
  return std::unique_ptr<SharedMemory>(new SharedMemory(path, data, bytes));
}

SharedMemory::~SharedMemory() { munmap(data_, static_cast<size_t>(bytes_)); }

void SharedMemory::Unlink() { unlink(path_.c_str()); }

}  // namespace angel_ptm
