// Law 4 on every transport: ranks that plan or issue different collectives are detected, and the error names the
// difference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/checked.h"
#include "tests/comm/world_under_test.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

class CheckedTest : public testing::TestWithParam<TestWorld> {};

std::vector<CollectiveEntry> PlannedEntries() {
  std::vector<CollectiveEntry> entries;
  for (int layer = 0; layer < 20; ++layer) {
    entries.push_back({CollectiveVerb::kAllGather, "layer." + std::to_string(layer) + ".dense", 3 << 20});
    entries.push_back({CollectiveVerb::kReduceScatter, "layer." + std::to_string(layer) + ".experts", 12 << 20});
  }
  return entries;
}

TEST_P(CheckedTest, EqualPlansPass) {
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
    const absl::Status status = checked.VerifySameSequence(PlannedEntries());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(checked.VerifySameSequence({}).ok());
  });
}

TEST_P(CheckedTest, FirstDifferentEntryIsNamedOnEveryRank) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
    std::vector<CollectiveEntry> entries = PlannedEntries();
    const int last = comm.size() - 1;
    if (comm.rank() == last) std::swap(entries[17], entries[18]);
    const absl::Status status = checked.VerifySameSequence(entries);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(std::string(status.message()),
              "the ranks' collectives differ: rank 0 plans #17 reduce-scatter layer.8.experts 12.0 MiB, rank " +
                  std::to_string(last) + " plans #17 all-gather layer.9.dense 3.00 MiB");
  });
}

TEST_P(CheckedTest, DifferenceInSizeOrNameAloneIsFound) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
    for (const bool size_differs : {false, true}) {
      std::vector<CollectiveEntry> entries = PlannedEntries();
      if (comm.rank() == 1 && size_differs) entries[5].bytes += 4;
      if (comm.rank() == 1 && !size_differs) entries[5].what += "'";
      const absl::Status status = checked.VerifySameSequence(entries);
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 plans #5 "));
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 plans #5 "));
    }
  });
}

TEST_P(CheckedTest, ShorterPlanIsNamed) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
    std::vector<CollectiveEntry> entries = PlannedEntries();
    if (comm.rank() == 0) entries.pop_back();
    const absl::Status status = checked.VerifySameSequence(entries);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 plans nothing after #38, rank 1 plans #39 "));
  });
}

TEST_P(CheckedTest, HistoriesAreCompared) {
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(checked.Barrier({"same", i}).ok());
    EXPECT_TRUE(checked.VerifySameHistory({"check"}).ok());
    EXPECT_EQ(checked.calls(), 5);
    // The transport cannot see this difference.
    ASSERT_TRUE(checked.Barrier({comm.rank() == 1 ? "other" : "same", 6}).ok());
    EXPECT_EQ(checked.VerifySameHistory({"check"}).ok(), comm.size() == 1);
  });
}

TEST_P(CheckedTest, EveryCallModeNamesDifferingCallsBeforeDataMoves) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kEveryCall);
    std::vector<std::byte> dst(static_cast<size_t>(comm.size()) * 8, std::byte{7}), src(8);
    ASSERT_TRUE(checked.Barrier({"start", 3}).ok());
    const absl::Status status =
        comm.rank() == 1 ? checked.Broadcast(dst, 0, {"seed", 4}) : checked.AllGather(dst, src, {"layer.3", 4});
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const std::string text(status.message());
    EXPECT_THAT(text, HasSubstr("call #1: rank " + std::to_string(comm.rank()) + " issues "));
    EXPECT_THAT(text, HasSubstr("all-gather \"layer.3\" (step 4) of "));
    EXPECT_THAT(text, HasSubstr("rank 1 issues broadcast \"seed\" (step 4) of "));
    EXPECT_EQ(dst[0], std::byte{7});
  });
}

TEST_P(CheckedTest, EveryCallModePassesEqualCalls) {
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kEveryCall);
    for (int64_t i = 0; i < 50; ++i) {
      std::vector<int64_t> all(static_cast<size_t>(comm.size()));
      const int64_t mine = i + comm.rank();
      const absl::Status status =
          checked.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&mine, 1)), {"x", i});
      ASSERT_TRUE(status.ok()) << status;
      for (int r = 0; r < comm.size(); ++r) ASSERT_EQ(all[static_cast<size_t>(r)], i + r);
    }
  });
}

// A message of a failed call may arrive after its caller has returned, so memory passed to KeepAlive lives as long as
// the transport.
TEST_P(CheckedTest, MemoryKeptAliveLivesAsLongAsTheTransport) {
  std::weak_ptr<int> memory;
  bool alive_within = false;
  RunWorld(GetParam(), [&](Communicator& comm) {
    if (comm.rank() != 0 && GetParam().transport == "local") return;
    {
      CheckedCommunicator checked(&comm, SequenceCheck::kHistory);
      const auto owned = std::make_shared<int>(7);
      memory = owned;
      checked.KeepAlive(owned);
    }
    alive_within = !memory.expired();
  });
  EXPECT_TRUE(alive_within);
  EXPECT_TRUE(memory.expired());
}

INSTANTIATE_TEST_SUITE_P(Worlds, CheckedTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
