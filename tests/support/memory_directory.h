// Where tests put scratch files that need not be on a drive.
#ifndef ANGEL_PTM_TESTS_SUPPORT_MEMORY_DIRECTORY_H_
#define ANGEL_PTM_TESTS_SUPPORT_MEMORY_DIRECTORY_H_

#include <unistd.h>

#include <filesystem>
#include <string>

namespace angel_ptm::testing_support {

// A file system in memory if the machine has one, so that a test takes no longer than its computation.
inline std::string MemoryDirectory() {
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
}

}  // namespace angel_ptm::testing_support

#endif  // ANGEL_PTM_TESTS_SUPPORT_MEMORY_DIRECTORY_H_
