// The same global batch on 1, 2, 3, 4 and 8 ranks as threads (world_sizes_mpi_test.cc: as processes).
#include "tests/laws/world_sizes.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

TinyResult TrainOn(const TinyRun& run, int world) {
  auto result = TrainLocally(run, world);
  if (result.ok()) return *std::move(result);
  ADD_FAILURE() << result.status();
  const std::vector<double> none(kSteps, NAN);
  return {.losses = none, .norms = none};
}

class WorldSizesTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { alone_ = TrainOn(RunOn(GetParam(), 1), 1); }

  TinyResult alone_;
};

TEST_P(WorldSizesTest, AgreeWithinRounding) {
  for (int world : {2, 3, 4, 8}) {
    const Disagreement d = Compare(TrainOn(RunOn(GetParam(), world), world), alone_);
    EXPECT_TRUE(d.Tolerable()) << world << " ranks";
    d.Print(absl::StrCat(world, " ranks against 1"));
  }
}

// Summing within nodes first gives other sums, equal within rounding.
TEST_P(WorldSizesTest, NodesAgreeWithinRounding) {
  const TinyResult at_once = TrainOn(RunOn(GetParam(), 4), 4);
  TinyRun run = RunOn(GetParam(), 4);
  run.ranks_per_node = 2;
  const TinyResult by_node = TrainOn(run, 4);
  EXPECT_NE(by_node.Difference(at_once), "");
  EXPECT_TRUE(Compare(by_node, alone_).Tolerable());
  for (const int none : {1, 4}) {
    run.ranks_per_node = none;
    EXPECT_EQ(TrainOn(run, 4).Difference(at_once), "") << none;
  }
}

// Law 3: a checkpoint saved on N ranks is continued on M.
TEST_P(WorldSizesTest, ContinueOnAnotherNumberOfRanks) {
  for (const auto& [before, after] : {std::pair(2, 3), std::pair(4, 1), std::pair(1, 8)}) {
    const TemporaryFolder folder;
    TinyRun first = RunOn(GetParam(), before);
    first.steps = 1;
    first.save_directory = folder.path();
    const TinyResult saved = TrainOn(first, before);
    TinyRun second = RunOn(GetParam(), after);
    second.first_step = 1;
    second.load_checkpoint = saved.checkpoint;
    TinyResult result = TrainOn(second, after);
    result.losses.insert(result.losses.begin(), saved.losses.begin(), saved.losses.end());
    result.norms.insert(result.norms.begin(), saved.norms.begin(), saved.norms.end());
    ASSERT_EQ(result.losses.size(), alone_.losses.size());
    const Disagreement d = Compare(result, alone_);
    EXPECT_TRUE(d.Tolerable()) << before << " then " << after << " ranks";
    d.Print(absl::StrCat(before, " then ", after, " ranks against 1"));
  }
}

// The tolerances are tight enough: faults in what is fed exceed them.
TEST_P(WorldSizesTest, FaultsAreNotRounding) {
  const std::vector<std::pair<std::string, std::function<int(int64_t, int)>>> faults = {
      {"a dropped micro-batch", [](int64_t step, int n) { return step == 1 && n == 7 ? kMicroBatches : n; }},
      {"a repeated micro-batch", [](int64_t step, int n) { return step == 1 && n == 7 ? 6 : n; }},
      {"padding that weighs", [](int64_t, int n) { return n == kMicroBatches ? 0 : n; }},
      {"a step fed again", [](int64_t step, int n) { return step == 2 ? n - kMicroBatches : n; }},
  };
  for (const auto& [name, feed] : faults) {
    TinyRun run = RunOn(GetParam(), 3);
    run.feed = feed;
    EXPECT_FALSE(Compare(TrainOn(run, 3), alone_).Tolerable()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, WorldSizesTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Moe" : "Dense"; });

}  // namespace
}  // namespace angel_ptm
