// Law 5: nothing is allocated after step 2, whatever the routing. The tests count every call of malloc, mmap and
// related functions in the whole process. Ranks are threads here, and processes in hot_path_mpi_test.cc.
#include "tests/exec/hot_path.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/local.h"
#include "comm/nodes.h"
#include "tests/exec/allocation_counter.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

// Keeps the compiler from optimising an allocation away.
void* volatile sink;

TEST(AllocationCounterTest, SeesEveryWayToAllocate) {
  void* old = nullptr;
  const std::vector<std::pair<const char*, std::function<void()>>> ways = {
      {"malloc", [] { sink = std::malloc(100); }},
      {"calloc", [] { sink = std::calloc(10, 10); }},
      {"realloc", [] { sink = std::realloc(nullptr, 100); }},
      {"aligned_alloc", [] { sink = std::aligned_alloc(64, 128); }},
      {"posix_memalign", [&] { sink = posix_memalign(&old, 64, 100) == 0 ? old : nullptr; }},
      {"new", [] { sink = new char[100]; }},
      {"aligned new", [] { sink = ::operator new(100, std::align_val_t(64)); }},
      {"mmap", [] { sink = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
      {"mremap", [] { sink = mremap(sink, 4096, 8192, MREMAP_MAYMOVE); }},
      {"a shared library", [] { sink = strdup("the C library's own call"); }},
  };
  for (const auto& [name, allocate] : ways) {
    const int64_t before = AllocationCalls();
    allocate();
    EXPECT_GE(AllocationCalls() - before, 1) << name;
  }
  std::atomic<int64_t> on_another_thread = 0;
  std::thread([&] {
    const int64_t before = AllocationCalls();
    sink = std::malloc(100);
    on_another_thread = AllocationCalls() - before;
  }).join();
  EXPECT_GE(on_another_thread, 1);
}

class HotPathTest : public testing::TestWithParam<std::tuple<int, int, bool, int>> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    data_ = PrepareTinyText(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }

  // Returns the allocation calls by rank. ranks_per_node: as in WorldShape.
  static std::vector<int64_t> Count(int world_size, const HotPathRun& run, int ranks_per_node = 0) {
    LocalWorld world(world_size);
    std::vector<int64_t> calls(world_size, -1);
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < world_size; ++rank) {
      threads.emplace_back([&, rank] {
        const auto communicator = world.Create(rank);
        std::unique_ptr<Communicator> nodes;
        if (WorldShape(world_size, ranks_per_node).has_nodes()) {
          auto made = CreateNodes(*communicator, ranks_per_node);
          ASSERT_TRUE(made.ok()) << made.status();
          nodes = *std::move(made);
        }
        calls[rank] = AllocationsOfFourSteps(run, nodes != nullptr ? *nodes : *communicator);
      });
    }
    threads.clear();
    return calls;
  }

  static TemporaryFolder* folder_;
  static std::string data_;
};
TemporaryFolder* HotPathTest::folder_ = nullptr;
std::string HotPathTest::data_;

TEST_P(HotPathTest, AllocatesNothingAfterStepTwo) {
  const auto [world_size, zero_stage, skewed, threads] = GetParam();
  for (int64_t calls :
       Count(world_size, {.data = data_, .zero_stage = zero_stage, .skewed = skewed, .threads = threads})) {
    // OpenBLAS maps a buffer whenever more callers multiply at the same time than ever before: in a whole run, at most
    // one for every thread of every rank in the process, except the first.
    EXPECT_LE(calls, world_size * threads - 1);
    EXPECT_GE(calls, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, HotPathTest,
                         testing::Combine(testing::Values(1, 2), testing::Values(0, 3), testing::Bool(),
                                          testing::Values(1, 2)));

using HotPathNodesTest = HotPathTest;
TEST_F(HotPathNodesTest, NorDoCollectivesByNodes) {
  for (int64_t calls : Count(4, {.data = data_, .zero_stage = 3}, /*ranks_per_node=*/2)) {
    EXPECT_LE(calls, 3);  // as above
    EXPECT_GE(calls, 0);
  }
}

// Also if all tokens go to the experts of one rank.
using HotPathExpertsTest = HotPathTest;
TEST_F(HotPathExpertsTest, NorDoExchangesOfTokens) {
  for (const bool skewed : {false, true}) {
    for (int64_t calls : Count(2, {.data = data_, .zero_stage = 3, .skewed = skewed, .expert_degree = 2})) {
      EXPECT_LE(calls, 1) << skewed;  // as above
      EXPECT_GE(calls, 0) << skewed;
    }
  }
}

using HotPathFileTest = HotPathTest;
TEST_F(HotPathFileTest, NorDoesMovingPagesToAFile) {
  for (int64_t calls : Count(2, {.data = data_, .zero_stage = 3, .file = true})) {
    EXPECT_LE(calls, 1);  // as above
    EXPECT_GE(calls, 0);
  }
}

TEST_F(HotPathFileTest, NorDoesUpdatingBesideTheTraining) {
  for (int64_t calls : Count(2, {.data = data_, .zero_stage = 3, .lock_free = true})) {
    EXPECT_LE(calls, 1);  // as above
    EXPECT_GE(calls, 0);
  }
}

// A single allocation in a step is found.
using HotPathSabotageTest = HotPathTest;
TEST_F(HotPathSabotageTest, AnAllocationPerStepIsFound) {
  const auto allocate = [] { sink = std::malloc(100); };
  EXPECT_EQ(Count(1, {.data = data_, .zero_stage = 3, .after_step = allocate})[0], 4);
}

}  // namespace
}  // namespace angel_ptm
