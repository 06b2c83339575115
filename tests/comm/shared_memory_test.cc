#include "comm/shared_memory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBytes = 1 << 16;

TEST(SharedMemoryTest, IsZeroedAndSharedByName) {
  const TemporaryFolder folder;
  const auto a = SharedMemory::Open(folder / "name", kBytes);
  ASSERT_TRUE(a.ok()) << a.status();
  const auto b = SharedMemory::Open(folder / "name", kBytes);
  ASSERT_TRUE(b.ok()) << b.status();
  char* const last_of_a = static_cast<char*>((*a)->data()) + kBytes - 1;
  EXPECT_EQ(*last_of_a, 0);
  *last_of_a = 7;
  EXPECT_EQ(static_cast<const char*>((*b)->data())[kBytes - 1], 7);
  (*b)->Unlink();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// What is left in /dev/shm holds memory until the machine restarts.
TEST(SharedMemoryTest, LeavesNothingWhereThereIsNoRoom) {
  const TemporaryFolder folder;
  const auto open = [&] {
    const FileSizeLimit limit(kBytes / 2);
    return SharedMemory::Open(folder / "name", kBytes).status();
  };
  const absl::Status status = open();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find(folder / "name"), std::string::npos) << status;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace angel_ptm
