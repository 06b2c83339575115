// Loading NCCL: every reason why it is not available is reported in a sentence.
#include "comm/nccl/nccl_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "comm/nccl/nccl_communicator.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

std::string RefusalOf(const char* file) { return std::string(LoadNcclFrom(file).status().message()); }

TEST(NcclLibraryTest, SaysWhyThereIsNone) {
  EXPECT_THAT(RefusalOf("libno-such-nccl.so.2"),
              testing::MatchesRegex("NCCL was not found, wanted version 2.19.0 or later .libno-such-nccl.so.2: .*"));
  EXPECT_EQ(RefusalOf("libm.so.6"), "libm.so.6 has no ncclGetVersion, wanted NCCL 2.19.0 or later");
  EXPECT_THAT(RefusalOf(ANGEL_PTM_OLD_NCCL), testing::EndsWith(" is NCCL 2.18.5, wanted 2.19.0 or later"));
}

// Loads this machine's NCCL and calls what works without a GPU.
TEST(NcclLibraryTest, TheMachinesAnswers) {
  const auto nccl = LoadNccl();
  if (!nccl.ok()) GTEST_SKIP() << nccl.status().message();
  EXPECT_THAT((*nccl)->Version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_NE((*nccl)->ErrorText(kNcclInvalidUsage), (*nccl)->ErrorText(kNcclRemoteError));
}

// Two ranks without a GPU, or with one between them.
TEST(NcclLibraryTest, TheMachinesRefusesRanksWithoutGpusOfTheirOwn) {
  const auto nccl = LoadNccl();
  if (!nccl.ok()) GTEST_SKIP() << nccl.status().message();
  const auto meets = [&](Communicator& peers) {
    return NcclCommunicator::Create(*nccl, peers, {.timeout_seconds = 20}, std::make_shared<NcclSiblings>()).status();
  };
  for (const absl::Status& result : StatusOfRanks(2, meets)) {
    EXPECT_THAT(std::string(result.message()),
                testing::MatchesRegex("rank [01] .one of 2., (meeting its peers|asking rank 0 for a place to meet): "
                                      "NCCL [0-9.]+: .+"));
    std::printf("  %s\n", std::string(result.message()).c_str());
  }
}

}  // namespace
}  // namespace angel_ptm
