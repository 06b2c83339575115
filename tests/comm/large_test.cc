// Buffers larger than 2^31 bytes, whose counts and offsets do not fit an int. Two ranks, about 9 GB in all: ctest label
// "large".
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "comm/ordered_reduce_scatter.h"
#include "tests/comm/world_under_test.h"
#include "tests/support/mpi_main.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

int64_t AvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  while (file >> key) {
    if (key == "MemAvailable:" && file >> kib) return kib << 10;
  }
  return 0;
}

// Returns the same answer on all ranks, so that no rank waits for one that skips the test.
bool EnoughMemory() {
  auto comm = TestMpiWorld().Create({.timeout_seconds = 60}, MpiTransport::kMessages);
  if (!comm.ok()) return false;
  int64_t bytes = AvailableBytes();
  return (*comm)->Broadcast(std::as_writable_bytes(std::span(&bytes, 1)), 0, {"available memory"}).ok() &&
         bytes > 12 * kGiB;
}

uint64_t WordOf(int rank, int64_t i) { return static_cast<uint64_t>(rank + 1) << 56 | static_cast<uint64_t>(i); }

class LargeTest : public testing::TestWithParam<TestWorld> {
  void SetUp() override { ASSERT_TRUE(EnoughMemory()) << "needs 12 GiB of free memory"; }
};

TEST_P(LargeTest, AllGatherBeyondTwoToTheThirtyOneBytesPerRank) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const int64_t n = (2 * kGiB + 4096) / 8;  // words per rank
    const std::unique_ptr<uint64_t[]> dst(new uint64_t[static_cast<size_t>(n * comm.size())]);
    uint64_t* mine = dst.get() + comm.rank() * n;
    for (int64_t i = 0; i < n; ++i) mine[i] = WordOf(comm.rank(), i);
    const std::span<uint64_t> all(dst.get(), static_cast<size_t>(n * comm.size()));
    const absl::Status status = comm.AllGather(
        std::as_writable_bytes(all), std::as_bytes(std::span(mine, static_cast<size_t>(n))), {"large gather"});
    ASSERT_TRUE(status.ok()) << status;
    int64_t wrong = 0;
    for (int r = 0; r < comm.size(); ++r) {
      for (int64_t i = 0; i < n; ++i) wrong += dst[static_cast<size_t>(r * n + i)] != WordOf(r, i);
    }
    EXPECT_EQ(wrong, 0);
  });
}

TEST_P(LargeTest, ReduceScatterOfMoreThanTwoToTheThirtyOneBytes) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const int64_t n = kGiB / 4 + 1021;  // floats per rank
    const std::unique_ptr<float[]> src(new float[static_cast<size_t>(n * comm.size())]);
    for (int64_t i = 0; i < n * comm.size(); ++i)
      src[static_cast<size_t>(i)] = static_cast<float>((i + comm.rank()) % 1000003);
    const std::unique_ptr<float[]> dst(new float[static_cast<size_t>(n)]);
    std::vector<std::byte> scratch(static_cast<size_t>(ReduceScratchBytes(n, comm.size())));
    const absl::Status status = OrderedReduceScatter(
        comm, std::span<float>(dst.get(), static_cast<size_t>(n)),
        std::span<const float>(src.get(), static_cast<size_t>(n * comm.size())), false, scratch, {"large reduction"});
    ASSERT_TRUE(status.ok()) << status;
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      float s = 0;
      for (int r = 0; r < comm.size(); ++r) s += static_cast<float>((comm.rank() * n + i + r) % 1000003);
      wrong += dst[static_cast<size_t>(i)] != s;
    }
    EXPECT_EQ(wrong, 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, LargeTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
