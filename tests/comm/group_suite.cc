// What groups must do on every transport: the verbs among their own ranks, concurrently with the parent's calls, and
// errors that name ranks by their numbers in the world.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <numeric>
#include <thread>

#include "comm/checked.h"
#include "comm/group.h"
#include "comm/mesh_groups.h"
#include "comm/ordered_reduce_scatter.h"
#include "tests/comm/world_under_test.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

int64_t Value(int world_rank, int64_t call, int64_t i) { return world_rank * 1000003 + call * 1009 + i; }

std::unique_ptr<Communicator> SplitOrDie(Communicator& comm, int color, CallTag tag = {"split"}) {
  absl::StatusOr<std::unique_ptr<Communicator>> group = comm.Split(color, tag);
  EXPECT_TRUE(group.ok()) << group.status();
  return group.ok() ? *std::move(group) : nullptr;
}

std::vector<int> WorldRanks(const Communicator& comm) {
  std::vector<int> ranks;
  for (int r = 0; r < comm.size(); ++r) ranks.push_back(comm.world_rank(r));
  return ranks;
}

// Calls every verb once, with contents that show whose data arrived where; returns "" if all are right.
std::string WrongVerb(Communicator& comm, int64_t call) {
  const int size = comm.size(), me = comm.world_rank(comm.rank());
  const int64_t n = 1 + call % 700;
  std::vector<int64_t> src(static_cast<size_t>(n * size)), dst(src.size());
  for (int64_t i = 0; i < n * size; ++i) src[i] = Value(me, call, i);
  const auto bytes = [](auto& v) { return std::as_writable_bytes(std::span(v)); };

  absl::Status status = comm.AllGather(bytes(dst), bytes(src).first(n * 8), {"gather", call});
  if (!status.ok()) return std::string(status.message());
  for (int64_t i = 0; i < n * size; ++i) {
    if (dst[i] != Value(comm.world_rank(static_cast<int>(i / n)), call, i % n)) return "all-gather";
  }
  status = comm.AllToAll(bytes(dst), SendBlocks::Parts(bytes(src), size), {"transpose", call});
  if (!status.ok()) return std::string(status.message());
  for (int64_t i = 0; i < n * size; ++i) {
    if (dst[i] != Value(comm.world_rank(static_cast<int>(i / n)), call, comm.rank() * n + i % n)) return "all-to-all";
  }
  const int root = static_cast<int>(call % size);
  status = comm.Broadcast(bytes(src), root, {"broadcast", call});
  if (!status.ok()) return std::string(status.message());
  for (int64_t i = 0; i < n * size; ++i) {
    if (src[i] != Value(comm.world_rank(root), call, i)) return "broadcast";
  }
  status = comm.Barrier({"barrier", call});
  return std::string(status.message());
}

class GroupTest : public testing::TestWithParam<TestWorld> {};

TEST_P(GroupTest, RanksOfAColorFormAGroupInTheWorldsOrder) {
  RunWorld(GetParam(), [](Communicator& comm) {
    // Any number can be a color, and a group may consist of one rank.
    for (const int color : {comm.rank() % 2, -1 - comm.rank() % 3, comm.rank() < 1 ? 7 : -7, comm.rank()}) {
      std::vector<int> wanted;
      const absl::StatusOr<std::vector<int>> colors = GatherWords(comm, color, {"colors"});
      ASSERT_TRUE(colors.ok());
      for (int r = 0; r < comm.size(); ++r) {
        if ((*colors)[r] == color) wanted.push_back(r);
      }
      const auto group = SplitOrDie(comm, color);
      ASSERT_NE(group, nullptr);
      EXPECT_EQ(WorldRanks(*group), wanted);
      EXPECT_EQ(group->world_rank(group->rank()), comm.rank());
      for (int64_t call = 0; call < 20; ++call) ASSERT_EQ(WrongVerb(*group, call * 37), "");
    }
    EXPECT_EQ(WrongVerb(comm, 1), "");
  });
}

TEST_P(GroupTest, ReducesInTheGroupsOrder) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto group = SplitOrDie(comm, comm.rank() % 2);
    ASSERT_NE(group, nullptr);
    const auto number = [](int world_rank, size_t i) { return 1.0f / static_cast<float>(world_rank * 7 + i % 13 + 3); };
    const int64_t n = 1000;
    std::vector<float> src(static_cast<size_t>(n * group->size())), dst(static_cast<size_t>(n));
    for (size_t i = 0; i < src.size(); ++i) src[i] = number(comm.rank(), i);
    std::vector<std::byte> scratch(static_cast<size_t>(ReduceScratchBytes(n, group->size())) + 64);
    void* aligned = scratch.data();
    size_t space = scratch.size();
    std::align(64, scratch.size() - 64, aligned, space);
    ASSERT_TRUE(OrderedReduceScatter(*group, dst, src, false, {static_cast<std::byte*>(aligned), scratch.size() - 64},
                                     {"reduce"})
                    .ok());
    for (size_t i = 0; i < dst.size(); ++i) {
      const size_t at = static_cast<size_t>(group->rank() * n) + i;
      float sum = number(group->world_rank(0), at);
      for (int r = 1; r < group->size(); ++r) sum += number(group->world_rank(r), at);
      ASSERT_EQ(dst[i], sum) << i;
    }
  });
}

// After splitting groups, several communicators connect the same two ranks.
TEST_P(GroupTest, AGroupIsSplitAgain) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto half = SplitOrDie(comm, comm.rank() % 2);
    ASSERT_NE(half, nullptr);
    // One group splits more often than the other.
    std::unique_ptr<Communicator> more;
    if (comm.rank() % 2 == 1) more = SplitOrDie(*half, 0);
    const auto quarter = SplitOrDie(*half, half->rank() % 2);
    const auto all = SplitOrDie(comm, 3);
    ASSERT_TRUE(quarter != nullptr && all != nullptr);
    for (int r = 0; r < quarter->size(); ++r) EXPECT_EQ(quarter->world_rank(r) % 4, comm.rank() % 4);
    EXPECT_EQ(all->size(), comm.size());
    for (int64_t call = 0; call < 10; ++call) {
      ASSERT_EQ(WrongVerb(*quarter, call), "");
      ASSERT_EQ(WrongVerb(*half, call + 1), "");
      if (more != nullptr) {
        ASSERT_EQ(WrongVerb(*more, call + 2), "");
      }
      ASSERT_EQ(WrongVerb(*all, call + 3), "");
      ASSERT_EQ(WrongVerb(comm, call + 4), "");
    }
  });
}

// Each rank plays the world's calls on one thread and those of two groups, one of them a duplicate of the world, on
// another. The threads do not wait for each other, so any two of these calls may be in flight together.
TEST_P(GroupTest, CallsOfGroupsAndParentDoNotMeet) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto duplicate = SplitOrDie(comm, 0), pair = SplitOrDie(comm, comm.rank() / 2);
    ASSERT_TRUE(duplicate != nullptr && pair != nullptr);
    constexpr int64_t kCalls = 60;
    std::string wrong;
    {
      std::jthread other([&] {
        for (int64_t call = 0; call < kCalls && wrong.empty(); ++call) {
          wrong = WrongVerb(*duplicate, 100 + call);
          if (wrong.empty()) wrong = WrongVerb(*pair, 200 + call);
        }
      });
      for (int64_t call = 0; call < kCalls; ++call) ASSERT_EQ(WrongVerb(comm, call), "");
    }
    EXPECT_EQ(wrong, "");
  });
}

// The same in an order that would hang if both shared one sequence: rank 0 enters the parent's call before the
// duplicate's, the others the other way round.
TEST_P(GroupTest, ADuplicateHasASequenceOfItsOwn) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto duplicate = SplitOrDie(comm, 0);
    ASSERT_NE(duplicate, nullptr);
    Communicator& first = comm.rank() == 0 ? comm : *duplicate;
    Communicator& second = comm.rank() == 0 ? *duplicate : comm;
    std::jthread early([&] { EXPECT_EQ(WrongVerb(first, &first == &comm ? 1 : 2), ""); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(WrongVerb(second, &second == &comm ? 1 : 2), "");
  });
}

TEST_P(GroupTest, AGroupOutlivesItsParentAndIsOutlivedByIt) {
  RunWorld(GetParam(), [](Communicator& comm) {
    auto parent = SplitOrDie(comm, 0);
    ASSERT_NE(parent, nullptr);
    auto group = SplitOrDie(*parent, comm.rank() % 2);
    ASSERT_NE(group, nullptr);
    parent.reset();
    EXPECT_EQ(WrongVerb(*group, 5), "");
    group.reset();
    EXPECT_EQ(WrongVerb(comm, 6), "");
  });
}

bool HasGroups(const TestWorld& world) { return world.size >= 3 && !world.transport.ends_with("_in_pieces"); }

TEST_P(GroupTest, AnErrorNamesRanksAsTheWorldDoes) {
  if (!HasGroups(GetParam())) GTEST_SKIP() << "needs a group that is not the world; pieces make no difference";
  RunWorld(GetParam(),
           [&](Communicator& comm) {
             // {0}, {1, 2}, and maybe more: rank 2 of the world is rank 1 of its group.
             const auto group = SplitOrDie(comm, (comm.rank() + 1) / 2);
             ASSERT_NE(group, nullptr);
             if (comm.rank() == 1) {
               const absl::Status status = group->Barrier({"two is late", 9});
               EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
               EXPECT_THAT(std::string(status.message()),
                           testing::ContainsRegex("^rank 1 of [0-9]+ \\(a group of 2\\) in barrier \"two is late\" "
                                                  "\\(step 9\\): waited [0-9.]+ s for rank 2"));
               EXPECT_FALSE(group->Barrier({"after", 10}).ok());
             }
             MeetOutside();
           },
           {.timeout_seconds = 2.0});
}

// Rank 0 waits for rank 1 in their group. Rank 1 waits in the world for rank 2, which is lost.
TEST_P(GroupTest, ARankThatIsLostElsewhereEndsAGroupsWait) {
  if (!HasGroups(GetParam())) GTEST_SKIP() << "needs a rank outside the group; pieces make no difference";
  constexpr double kDeathSeconds = 0.5;
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  // When the groups were ready, however long that took. Nobody dies before.
  std::atomic<double> start = std::numeric_limits<double>::infinity();
  const auto seconds = [&] { return now() - start.load(); };
  WaitOptions options = {.timeout_seconds = 60.0};
  options.poll = [&](double) {
    return seconds() < kDeathSeconds ? absl::OkStatus() : absl::UnavailableError("rank 2 (pid 123) died at step 12");
  };
  RunWorld(
      GetParam(),
      [&](Communicator& comm) {
        const auto group = SplitOrDie(comm, comm.rank() / 2);
        ASSERT_NE(group, nullptr);
        if (comm.rank() >= 2) return MeetOutside();
        start.store(now());
        const absl::Status status = (comm.rank() == 0 ? *group : comm).Barrier({"never", 3});
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 (pid 123) died at step 12"));
        EXPECT_GT(seconds(), kDeathSeconds / 2);  // a peer's clock may have started earlier
        EXPECT_LT(seconds(), options.timeout_seconds / 2);
        MeetOutside();
      },
      options);
}

// Law 4 in a group: a difference in a rank's own group is found and named, whatever the other group does.
TEST_P(GroupTest, DifferingCallsInAGroupAreFoundByName) {
  if (GetParam().size < 3) GTEST_SKIP() << "needs a group that is not the world";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator world(&comm, SequenceCheck::kEveryCall);
    const auto split = world.SplitChecked(comm.rank() == 0 ? 0 : 1, {"split", 0});
    ASSERT_TRUE(split.ok()) << split.status();
    CheckedCommunicator& group = **split;
    const std::vector<CollectiveEntry> planned = {
        {CollectiveVerb::kAllGather, comm.rank() == 2 ? "layer.2" : "layer.1", 64}};
    const absl::Status plans = group.VerifySameSequence(planned);
    ASSERT_TRUE(group.Barrier({comm.rank() == 0 ? "alone" : "together", 1}).ok());
    const absl::Status call = group.Barrier({comm.rank() == 2 ? "sabotage" : "usual", 2});
    if (comm.rank() == 0) {
      EXPECT_TRUE(plans.ok() && call.ok()) << plans << call;
    } else {
      EXPECT_EQ(std::string(plans.message()),
                "the ranks' collectives differ: rank 1 plans #0 all-gather layer.1 64 B, rank 2 plans #0 all-gather "
                "layer.2 64 B");
      EXPECT_THAT(std::string(call.message()), HasSubstr("rank 2 issues barrier \"sabotage\" (step 2)"));
      if (comm.rank() == 1) {
        EXPECT_THAT(std::string(call.message()), HasSubstr("rank 1 issues barrier \"usual\" (step 2)"));
      }
    }
    // The groups' calls are not part of the world's history.
    EXPECT_TRUE(world.VerifySameHistory({"world"}).ok());
    EXPECT_EQ(world.calls(), 1);
    EXPECT_EQ(group.VerifySameHistory({"group"}).ok(), comm.rank() == 0);
  });
}

TEST_P(GroupTest, ADifferingSplitIsFoundByName) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    CheckedCommunicator checked(&comm, SequenceCheck::kEveryCall);
    const absl::Status status =
        comm.rank() == 1 ? checked.Barrier({"no split", 1}) : checked.Split(0, {"control", 1}).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("split \"control\" (step 1)"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 issues barrier \"no split\" (step 1)"));
  });
}

// Law 4 in groups, whose calls the world's history does not contain.
TEST_P(GroupTest, MeshGroupsCompareTheirHistories) {
  const int size = GetParam().size;
  if (size % 2 != 0) GTEST_SKIP() << "needs two places";
  RunWorld(GetParam(), [&](Communicator& comm) {
    CheckedCommunicator world(&comm, SequenceCheck::kHistory);
    const absl::StatusOr<MeshGroups> groups = MakeMeshGroups(world, 2);
    ASSERT_TRUE(groups.ok()) << groups.status();
    ASSERT_EQ(groups->Of(RankGroup::kPlaces).Barrier({"same"}), absl::OkStatus());
    EXPECT_EQ(groups->VerifySameHistory({"check"}), absl::OkStatus());
    ASSERT_EQ(groups->Of(RankGroup::kPlaces).Barrier({comm.rank() == 1 ? "other" : "same"}), absl::OkStatus());
    const int replicas = size / 2;
    EXPECT_EQ(groups->VerifySameHistory({"check"}).ok(), comm.rank() % replicas != 1 % replicas);
    EXPECT_EQ(world.VerifySameHistory({"check"}), absl::OkStatus());
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, GroupTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
