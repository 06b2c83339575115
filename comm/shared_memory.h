// Memory that several processes of one machine map. It never has a name, so whoever is killed when leaves nothing
// behind, and no directory need be writable: others open it through its creator's file descriptor.
#ifndef ANGEL_PTM_COMM_SHARED_MEMORY_H_
#define ANGEL_PTM_COMM_SHARED_MEMORY_H_

#include <cstdint>
#include <memory>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

class SharedMemory {
 public:
  // `bytes` zeroed bytes; the space is reserved.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(int64_t bytes);
  // The memory that process `process_id` of the same user has created and whose descriptor() it still holds open.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Open(int64_t process_id, int descriptor, int64_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int descriptor() const { return descriptor_; }
  // All have opened it.
  void CloseDescriptor();

 private:
  SharedMemory(void* data, int64_t bytes, int descriptor) : data_(data), bytes_(bytes), descriptor_(descriptor) {}
  // Takes over the file.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Map(int file, int64_t bytes);

  void* const data_;
  const int64_t bytes_;
  int descriptor_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_SHARED_MEMORY_H_
