#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

absl::Status NoRoom(int64_t bytes, int error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot reserve ", bytes, " bytes of shared memory: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Map(int file, int64_t bytes) {
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data != MAP_FAILED) return std::unique_ptr<SharedMemory>(new SharedMemory(data, bytes, file));
  const int error = errno;
  close(file);
  return NoRoom(bytes, error);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Create(int64_t bytes) {
  const int file = memfd_create("angel-ptm", MFD_CLOEXEC);
  if (file < 0) return absl::UnavailableError(absl::StrCat("no shared memory: ", std::strerror(errno)));
  // Reserving the space turns a lack of it into an error here instead of a SIGBUS at the first touch.
  int error;
  do {
    error = posix_fallocate(file, 0, bytes);
  } while (error == EINTR);
  if (error == 0) return Map(file, bytes);
  close(file);
  return NoRoom(bytes, error);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Open(int64_t process_id, int descriptor, int64_t bytes) {
  const std::string path = absl::StrCat("/proc/", process_id, "/fd/", descriptor);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, Map(file, bytes));
  memory->CloseDescriptor();
  return memory;
}

void SharedMemory::CloseDescriptor() {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
}

SharedMemory::~SharedMemory() {
  CloseDescriptor();
  munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace angel_ptm
