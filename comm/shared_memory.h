// Memory that several processes of one machine map. It never has a name, so a process that is killed leaves nothing
// behind, whichever it is and whenever that happens, and no directory need be writable (nor /dev/shm large): other
// processes open it through its creator's file descriptor. A control group charges it once, to the process that touched
// it first.
#ifndef ANGEL_PTM_COMM_SHARED_MEMORY_H_
#define ANGEL_PTM_COMM_SHARED_MEMORY_H_

#include <cstdint>
#include <memory>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

class SharedMemory {
 public:
  // How other processes find it.
  struct Handle {
    int64_t process_id = 0, descriptor = -1;
    int64_t file_number = 0;  // tells it from a file of a process in another PID namespace
    int64_t bytes = 0;
  };

  // `bytes` zeroed bytes; the space is reserved.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(int64_t bytes);
  // For large sizes: the memory is touched by `threads` threads and lies on huge pages where the kernel grants them.
  // Few kernels give huge pages to shared memory by default, so they are requested one by one (MADV_COLLAPSE, Linux
  // 6.1; its policy "deny" refuses).
  static absl::StatusOr<std::unique_ptr<SharedMemory>> CreateTouched(int64_t bytes, int threads);

  enum class Access { kReadWrite, kRead };
  // Opens memory of a process of the same user that still holds its descriptor() open. kRead also fills this process's
  // page table.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Open(const Handle& handle, Access access);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int descriptor() const { return descriptor_; }
  // Only for memory that this process created.
  Handle handle() const;
  // To be called when all other processes have opened the memory.
  void CloseDescriptor();

 private:
  SharedMemory(void* data, int64_t bytes, int descriptor) : data_(data), bytes_(bytes), descriptor_(descriptor) {}
  // A new file of `bytes` bytes, which have no memory yet.
  static absl::StatusOr<int> NewFile(int64_t bytes);
  // Maps the file and takes ownership of it.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Map(int file, int64_t bytes, int protection, int flags);

  void* const data_;
  const int64_t bytes_;
  int descriptor_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_SHARED_MEMORY_H_
