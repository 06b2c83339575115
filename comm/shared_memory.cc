#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/parallel_pieces.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// Enough work to be worth starting a thread.
constexpr int64_t kPieceBytes = 32 * kHugePage;
#ifdef MADV_COLLAPSE
constexpr int kCollapse = MADV_COLLAPSE;
#else
constexpr int kCollapse = 25;  // newer than some C libraries' headers
#endif

absl::Status NoRoom(int64_t bytes, int error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot reserve ", FormatBytes(bytes), " of shared memory: ", std::strerror(error)));
}

// Turns a lack of space into an error number here instead of a SIGBUS at the first touch.
int Reserve(int file, int64_t begin, int64_t bytes) {
  int error;
  do {
    error = posix_fallocate(file, begin, bytes);
  } while (error == EINTR);
  return error;
}

// One small page is enough to begin with: if the range becomes a huge page, nobody has to fill, copy and free the other
// 511.
int ReserveAndTouch(int file, std::byte* data, int64_t begin, int64_t bytes) {
  if (bytes == kHugePage) {
    constexpr int64_t kSmallPage = 4096;
    if (const int error = Reserve(file, begin, kSmallPage); error != 0) return error;
    data[begin] = std::byte{0};
    if (madvise(data + begin, static_cast<size_t>(bytes), kCollapse) == 0) return 0;
  }
  if (const int error = Reserve(file, begin, bytes); error != 0) return error;
  std::memset(data + begin, 0, static_cast<size_t>(bytes));
  return 0;
}

// Reserves address space for `bytes` bytes that begins at a multiple of the huge page size.
std::byte* ReserveAddresses(int64_t bytes) {
  const int64_t more = bytes + kHugePage;
  void* const all =
      mmap(nullptr, static_cast<size_t>(more), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  std::byte* const begin = static_cast<std::byte*>(all);
  const int64_t before = (kHugePage - static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin) % kHugePage)) % kHugePage;
  const int64_t page = sysconf(_SC_PAGESIZE), end = before + (bytes + page - 1) / page * page;
  if (before > 0) munmap(begin, static_cast<size_t>(before));
  if (end < more) munmap(begin + end, static_cast<size_t>(more - end));
  return begin + before;
}

}  // namespace

absl::StatusOr<int> SharedMemory::NewFile(int64_t bytes) {
  const int file = memfd_create("angel-ptm", MFD_CLOEXEC);
  if (file < 0) return absl::UnavailableError(absl::StrCat("no shared memory: ", std::strerror(errno)));
  if (ftruncate(file, bytes) == 0) return file;
  const int error = errno;
  close(file);
  return NoRoom(bytes, error);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Map(int file, int64_t bytes, int protection, int flags) {
  std::byte* const place = bytes < kHugePage ? nullptr : ReserveAddresses(bytes);
  void* const data = mmap(place, static_cast<size_t>(bytes), protection,
                          MAP_SHARED | flags | (place != nullptr ? MAP_FIXED : 0), file, 0);
  if (data != MAP_FAILED) return std::unique_ptr<SharedMemory>(new SharedMemory(data, bytes, file));
  const int error = errno;
  if (place != nullptr) munmap(place, static_cast<size_t>(bytes));
  close(file);
  return NoRoom(bytes, error);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Create(int64_t bytes) {
  ASSIGN_OR_RETURN(const int file, NewFile(bytes));
  const int error = Reserve(file, 0, bytes);
  if (error == 0) return Map(file, bytes, PROT_READ | PROT_WRITE, 0);
  close(file);
  return NoRoom(bytes, error);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::CreateTouched(int64_t bytes, int threads) {
  ASSIGN_OR_RETURN(const int file, NewFile(bytes));
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, Map(file, bytes, PROT_READ | PROT_WRITE, 0));
  std::byte* const data = static_cast<std::byte*>(memory->data());
  std::atomic<int> error = 0;
  ForEachPiece(bytes, kPieceBytes, threads, [&](int64_t begin, int64_t length) {
    for (int64_t at = begin; at < begin + length && error.load() == 0; at += kHugePage) {
      const int failed = ReserveAndTouch(file, data, at, std::min(kHugePage, begin + length - at));
      if (failed != 0) error.store(failed);
    }
  });
  if (error.load() != 0) return NoRoom(bytes, error.load());
  return memory;
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Open(const Handle& handle, Access access) {
  const std::string path = absl::StrCat("/proc/", handle.process_id, "/fd/", handle.descriptor);
  const bool reads = access == Access::kRead;
  const int file = open(path.c_str(), (reads ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (file < 0) return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  struct stat found = {};
  if (fstat(file, &found) != 0 || static_cast<int64_t>(found.st_ino) != handle.file_number ||
      found.st_size != handle.bytes) {
    close(file);
    return absl::UnavailableError(absl::StrCat(path, " is another process's: the ranks do not see the same processes"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory,
                   Map(file, handle.bytes, reads ? PROT_READ : PROT_READ | PROT_WRITE, reads ? MAP_POPULATE : 0));
  memory->CloseDescriptor();
  return memory;
}

SharedMemory::Handle SharedMemory::handle() const {
  struct stat own = {};
  fstat(descriptor_, &own);
  return {getpid(), descriptor_, static_cast<int64_t>(own.st_ino), bytes_};
}

void SharedMemory::CloseDescriptor() {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
}

SharedMemory::~SharedMemory() {
  CloseDescriptor();
  munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace angel_ptm
