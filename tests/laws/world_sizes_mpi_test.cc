// The same global batch on the ranks of mpirun and on one rank alone.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/laws/world_sizes.h"
#include "tests/support/mpi_main.h"

namespace angel_ptm {
namespace {

class WorldSizesMpiTest : public testing::TestWithParam<bool> {};

TEST_P(WorldSizesMpiTest, AgreesWithOneRankWithinRounding) {
  MpiWorld& mpi = TestMpiWorld();
  const auto communicator = mpi.Create({.timeout_seconds = 300.0}, MpiTransport::kAuto);
  ASSERT_TRUE(communicator.ok()) << communicator.status();
  const auto result = Train(RunOn(GetParam(), mpi.size()), **communicator);
  ASSERT_TRUE(result.ok()) << result.status();
  if (mpi.rank() == 0) {
    const auto alone = TrainLocally(RunOn(GetParam(), 1), 1);
    ASSERT_TRUE(alone.ok()) << alone.status();
    const Disagreement d = Compare(*result, *alone);
    EXPECT_TRUE(d.Tolerable());
    d.Print(absl::StrCat(mpi.size(), " processes against 1, ", mpi.transport_description()));
  }
  EXPECT_TRUE((*communicator)->Barrier({"end of the test"}).ok());
}

INSTANTIATE_TEST_SUITE_P(Models, WorldSizesMpiTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Moe" : "Dense"; });

}  // namespace
}  // namespace angel_ptm
