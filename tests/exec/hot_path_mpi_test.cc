// Law 5 with ranks as processes: with direct reads, no process allocates anything after step 2. With messages, Open
// MPI's own allocations are bounded.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <tuple>

#include "tests/exec/hot_path.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/mpi_main.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

// Measured with Open MPI 4.1.4 on two processes of one machine: none in the four steps.
constexpr int64_t kMessageAllocationsMax = 64;

class HotPathMpiTest : public testing::TestWithParam<std::tuple<MpiTransport, int, bool>> {};

TEST_P(HotPathMpiTest, AllocatesNothingAfterStepTwo) {
  const auto [transport, zero_stage, skewed] = GetParam();
  MpiWorld& mpi = TestMpiWorld();
  const std::filesystem::path folder = NewSharedFolder();
  const std::string data = folder / "data";
  if (mpi.rank() == 0) PrepareTinyText(folder);
  ASSERT_TRUE(mpi.Meet("the reading of data").ok());
  const auto communicator = mpi.Create({.timeout_seconds = 100.0}, transport);
  ASSERT_TRUE(communicator.ok()) << communicator.status();
  const int64_t calls =
      AllocationsOfFourSteps({.data = data, .zero_stage = zero_stage, .skewed = skewed}, **communicator);
  EXPECT_GE(calls, 0);
  EXPECT_LE(calls, transport == MpiTransport::kMessages ? kMessageAllocationsMax : 0);
  std::printf("  %s: %lld allocation calls in four steps\n", mpi.transport_description().c_str(),
              static_cast<long long>(calls));
  ASSERT_TRUE(mpi.Meet("the end of a test").ok());
  if (mpi.rank() == 0) std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(Transports, HotPathMpiTest,
                         testing::Combine(testing::Values(MpiTransport::kDirectReads, MpiTransport::kMessages),
                                          testing::Values(0, 3), testing::Bool()));

}  // namespace
}  // namespace angel_ptm
