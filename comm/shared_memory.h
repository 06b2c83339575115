// Memory that several processes of one machine map: a file in a directory all of them see, /dev/shm as a rule.
#ifndef ANGEL_PTM_COMM_SHARED_MEMORY_H_
#define ANGEL_PTM_COMM_SHARED_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

class SharedMemory {
 public:
  // Maps the file `path`, created with `bytes` zeroed bytes (the space is reserved) by whoever comes first.
  // If there is no room for it the name is removed, whoever made it: its users need each other.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Open(const std::string& path, int64_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return data_; }

  // Removes the name: the memory lives until the last process unmaps it, and nothing is left behind by a killed one.
  // Call it on one process when all have opened it.
  void Unlink();

 private:
  SharedMemory(std::string path, void* data, int64_t bytes) : path_(std::move(path)), data_(data), bytes_(bytes) {}

  const std::string path_;
  void* const data_;
  const int64_t bytes_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_SHARED_MEMORY_H_
