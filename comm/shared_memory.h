// Memory that several processes of one machine map. It never has a name, so whoever is killed when leaves nothing
// behind, and no directory need be writable (nor /dev/shm large): others open it through its creator's file descriptor.
// A control group counts it once, for the process that touched it first.
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
    int64_t file_number = 0;  // so that it is not taken for another process's, of another process namespace
    int64_t bytes = 0;
  };

  // `bytes` zeroed bytes; the space is reserved.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(int64_t bytes);
  // For much of it: touched by `threads` threads, on huge pages where the kernel grants them. Shared memory gets those
  // from few kernels unasked, so they are asked for one by one (MADV_COLLAPSE, Linux 6.1; its policy "deny" refuses).
  static absl::StatusOr<std::unique_ptr<SharedMemory>> CreateTouched(int64_t bytes, int threads);

  enum class Access { kReadWrite, kRead };
  // Memory of a process of the same user that still holds its descriptor() open. kRead: also fills this process's page
  // table.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Open(const Handle& handle, Access access);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int descriptor() const { return descriptor_; }
  // Of memory that this process created.
  Handle handle() const;
  // All have opened it.
  void CloseDescriptor();

 private:
  SharedMemory(void* data, int64_t bytes, int descriptor) : data_(data), bytes_(bytes), descriptor_(descriptor) {}
  // A new file of so many bytes, which have no memory yet.
  static absl::StatusOr<int> NewFile(int64_t bytes);
  // Takes over the file.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Map(int file, int64_t bytes, int protection, int flags);

  void* const data_;
  const int64_t bytes_;
  int descriptor_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_SHARED_MEMORY_H_
