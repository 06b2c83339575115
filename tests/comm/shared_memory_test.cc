#include "comm/shared_memory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>

#include "tests/support/file_size_limit.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBytes = 1 << 16;

TEST(SharedMemoryTest, IsZeroedAndOpensThroughItsCreatorsDescriptor) {
  const auto a = SharedMemory::Create(kBytes);
  ASSERT_TRUE(a.ok()) << a.status();
  char* const last_of_a = static_cast<char*>((*a)->data()) + kBytes - 1;
  EXPECT_EQ(*last_of_a, 0);
  const SharedMemory::Handle handle = (*a)->handle();
  const pid_t child = fork();
  if (child == 0) {
    const auto b = SharedMemory::Open(handle, SharedMemory::Access::kReadWrite);
    if (!b.ok() || (*b)->descriptor() >= 0) _exit(2);
    static_cast<char*>((*b)->data())[kBytes - 1] = 7;
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(*last_of_a, 7);
}

TEST(SharedMemoryTest, MemoryThatIsNotThereIsAnError) {
  const auto a = SharedMemory::Create(kBytes);
  ASSERT_TRUE(a.ok()) << a.status();
  const SharedMemory::Handle handle = (*a)->handle();
  (*a)->CloseDescriptor();
  EXPECT_EQ(SharedMemory::Open(handle, SharedMemory::Access::kRead).status().code(), absl::StatusCode::kUnavailable);
}

TEST(SharedMemoryTest, AFileThatIsNotTheCreatorsIsAnError) {
  const auto a = SharedMemory::Create(kBytes), b = SharedMemory::Create(kBytes);
  ASSERT_TRUE(a.ok() && b.ok());
  SharedMemory::Handle handle = (*a)->handle();
  handle.descriptor = (*b)->descriptor();
  const absl::Status status = SharedMemory::Open(handle, SharedMemory::Access::kRead).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

// A field of /proc/self/smaps, in KiB, of this process's mapping that begins at `data`.
int64_t MappingKib(const void* data, const std::string& key) {
  std::ifstream file("/proc/self/smaps");
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<uintptr_t>(data) << '-';
  std::string line;
  while (std::getline(file, line) && !line.starts_with(begin.str())) continue;
  while (std::getline(file, line) && !line.starts_with("VmFlags:")) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1));
  }
  return -1;
}

TEST(SharedMemoryTest, TouchedMemoryIsAllThereForItsReadersToo) {
  constexpr int64_t kLarge = 3 * (int64_t{32} << 21) + (3 << 20) + 4096 + 7;  // pieces, huge pages, small ones, a rest
  const auto a = SharedMemory::CreateTouched(kLarge, 3);
  ASSERT_TRUE(a.ok()) << a.status();
  char* const data = static_cast<char*>((*a)->data());
  EXPECT_EQ(std::count(data, data + kLarge, 0), kLarge);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 4096, 0u);
  constexpr int64_t kKib = (kLarge + 4095) / 4096 * 4;
  EXPECT_EQ(MappingKib(data, "Rss"), kKib);
  data[0] = 1, data[kLarge - 1] = 2;
  const auto b = SharedMemory::Open((*a)->handle(), SharedMemory::Access::kRead);
  ASSERT_TRUE(b.ok()) << b.status();
  const char* const seen = static_cast<const char*>((*b)->data());
  EXPECT_EQ(MappingKib(seen, "Rss"), kKib);
  EXPECT_EQ(seen[0], 1);
  EXPECT_EQ(seen[kLarge - 1], 2);
  // Whether the kernel grants huge pages or not, creator and readers get the same.
  EXPECT_EQ(MappingKib(seen, "ShmemPmdMapped"), MappingKib(data, "ShmemPmdMapped"));
}

TEST(SharedMemoryTest, NoRoomIsAnErrorAndNotASignalLater) {
  const auto status_of = [](auto&& create) {
    const FileSizeLimit limit(kBytes / 2);
    return create().status();
  };
  const absl::Status status = status_of([] { return SharedMemory::Create(kBytes); });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  const absl::Status touched = status_of([] { return SharedMemory::CreateTouched(kBytes, 1); });
  EXPECT_EQ(touched.code(), absl::StatusCode::kResourceExhausted) << touched;
}

}  // namespace
}  // namespace angel_ptm
