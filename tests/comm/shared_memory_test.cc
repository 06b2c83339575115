#include "comm/shared_memory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/file_size_limit.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBytes = 1 << 16;

TEST(SharedMemoryTest, IsZeroedAndOpensThroughItsCreatorsDescriptor) {
  const auto a = SharedMemory::Create(kBytes);
  ASSERT_TRUE(a.ok()) << a.status();
  char* const last_of_a = static_cast<char*>((*a)->data()) + kBytes - 1;
  EXPECT_EQ(*last_of_a, 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto b = SharedMemory::Open(getppid(), (*a)->descriptor(), kBytes);
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
  const int descriptor = (*a)->descriptor();
  (*a)->CloseDescriptor();
  EXPECT_EQ(SharedMemory::Open(getpid(), descriptor, kBytes).status().code(), absl::StatusCode::kUnavailable);
}

TEST(SharedMemoryTest, NoRoomIsAnErrorAndNotASignalLater) {
  const auto create = [&] {
    const FileSizeLimit limit(kBytes / 2);
    return SharedMemory::Create(kBytes).status();
  };
  const absl::Status status = create();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace angel_ptm
