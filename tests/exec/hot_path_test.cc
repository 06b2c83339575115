// Law 5: after step 2 nothing is allocated, whatever the routing: every call of malloc and mmap of the whole process is
// counted.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "comm/local.h"
#include "tests/exec/allocation_counter.h"
#include "tests/exec/tiny_trainer.h"

namespace angel_ptm {
namespace {

TEST(AllocationCounterTest, SeesAllocations) {
  const int64_t before = AllocationCalls();
  std::vector<int>* allocated = new std::vector<int>(1000);
  EXPECT_GE(AllocationCalls() - before, 2);
  delete allocated;
}

class HotPathTest : public testing::TestWithParam<std::tuple<int, int, bool>> {
 protected:
  static void SetUpTestSuite() { data_ = PrepareTinyText(testing::TempDir() + "/hot_path_test"); }
  static std::string data_;
};
std::string HotPathTest::data_;

// All ranks step together; each returns the process's allocation calls between the ends of steps 2 and 6.
TEST_P(HotPathTest, AllocatesNothingAfterStepTwo) {
  const auto [world_size, zero_stage, skewed] = GetParam();
  LocalWorld world(world_size);
  std::vector<int64_t> calls(world_size, -1);
  std::vector<double> losses(world_size);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < world_size; ++rank) {
      threads.emplace_back([&, rank] {
        const auto communicator = world.Create(rank);
        const TrainConfig config = TinyConfig(data_, "sharding { zero_stage: " + std::to_string(zero_stage) +
                                                         " } memory { page_bytes: 4096 device_bytes: 700000 }");
        TinyTrainer trainer(config, *communicator);
        if (skewed) trainer.RouteAllTokensToTheSameExperts();
        for (int step = 0; step <= 2; ++step) trainer.Step();
        if (!communicator->Barrier({"counting", 0}).ok()) return;
        const int64_t before = AllocationCalls();
        for (int step = 3; step <= 6; ++step) trainer.Step();
        calls[rank] = AllocationCalls() - before;
        losses[rank] = trainer.loss();
        // Nobody tears down while another still counts.
        (void)communicator->Barrier({"counted", 0});
      });
    }
  }
  for (int rank = 0; rank < world_size; ++rank) {
    // OpenBLAS maps one buffer for each caller that multiplies at the same time as others, when that first happens:
    // with ranks as threads of one process at most one for every rank but the first, in a whole run.
    EXPECT_LE(calls[rank], world_size - 1) << "rank " << rank;
    EXPECT_GT(losses[rank], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, HotPathTest,
                         testing::Combine(testing::Values(1, 2), testing::Values(0, 3), testing::Bool()));

}  // namespace
}  // namespace angel_ptm
