// What only ranks as threads can do: end early, abort, and be caught with differing calls before memory is touched.
#include "comm/local.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

TEST(LocalWorldTest, PeersOfAnEndedRankStopWaiting) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<absl::Status> results = StatusOfRanks(4, [](Communicator& comm) {
    absl::Status status = comm.Barrier({"all here", 1});
    if (comm.rank() == 2) return status;
    return comm.Barrier({"without rank two", 2});
  });
  EXPECT_TRUE(results[2].ok());
  for (const int r : {0, 1, 3}) {
    EXPECT_EQ(results[r].code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(results[r].message()),
                HasSubstr("rank 2 has ended; its last call was barrier \"all here\" (step 1)"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(LocalWorldTest, AbortEndsAllWaits) {
  LocalWorld world(2, {.timeout_seconds = 60.0});
  const std::unique_ptr<Communicator> zero = world.Create(0), one = world.Create(1);
  absl::Status status;
  std::thread waiting([&] { status = zero->Barrier({"never", 5}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  world.Abort("the disk is full");
  waiting.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
  EXPECT_EQ(one->Barrier({"later", 6}).code(), absl::StatusCode::kUnavailable);
}

// Without a watcher, too, the first failure in any communicator ends the waits in all of them.
TEST(LocalWorldTest, ARankThatEndsOutsideAGroupEndsItsWait) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<absl::Status> results = StatusOfRanks(4, [](Communicator& comm) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> group, comm.Split(comm.rank() / 2, {"halves"}));
    RETURN_IF_ERROR(comm.Barrier({"all here", 1}));
    if (comm.rank() == 3) {  // ends while the others wait: rank 2 waits for it in the world
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      return absl::OkStatus();
    }
    if (comm.rank() == 2) return comm.Barrier({"without rank three", 2});
    if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    return group->Barrier({"halves go on", 3});
  });
  EXPECT_TRUE(results[3].ok());
  EXPECT_THAT(std::string(results[2].message()), HasSubstr("rank 3 has ended; its last call was "));
  EXPECT_THAT(std::string(results[0].message()),
              HasSubstr("rank 0 of 4 (a group of 2) in barrier \"halves go on\" (step 3): rank 2 of 4 in barrier "
                        "\"without rank three\" (step 2): rank 3 has ended"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(LocalWorldTest, PeersOfARankThatEndedInAGroupStopWaitingThere) {
  const std::vector<absl::Status> results = StatusOfRanks(3, [](Communicator& comm) -> absl::Status {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, comm.Split(comm.rank() == 0 ? 0 : 1, {"groups"}));
    if (comm.rank() == 2) group.reset();
    RETURN_IF_ERROR(comm.Barrier({"in the world it goes on", 1}));
    if (comm.rank() == 2) return absl::OkStatus();
    return group->Barrier({"without rank two", 2});
  });
  EXPECT_TRUE(results[0].ok()) << results[0];
  EXPECT_THAT(std::string(results[1].message()), HasSubstr("rank 2 has ended; its last call was none"));
}

TEST(LocalWorldTest, AbortEndsTheWaitsOfGroups) {
  LocalWorld world(2, {.timeout_seconds = 60.0});
  absl::Status status;
  std::atomic<bool> is_split = false;
  std::jthread one([&] {
    const std::unique_ptr<Communicator> comm = world.Create(1);
    const auto group = comm->Split(0, {"duplicate"});
    comm->Barrier({"until the abort"}).IgnoreError();
  });
  std::jthread zero([&] {
    const std::unique_ptr<Communicator> comm = world.Create(0);
    const auto group = comm->Split(0, {"duplicate"});
    is_split = true;
    status = (*group)->Barrier({"never", 5});
  });
  while (!is_split) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  world.Abort("the disk is full");
  zero.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
}

TEST(LocalWorldTest, DifferingSizesAreAnErrorOnEveryRankNotAWrongRead) {
  const std::vector<absl::Status> results = StatusOfRanks(3, [](Communicator& comm) {
    const size_t n = comm.rank() == 1 ? 64 : 32;
    std::vector<std::byte> src(n), dst(n * 3);
    return comm.AllGather(dst, src, {"layer.3", 0});
  });
  for (const absl::Status& status : results) {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr("all-gather \"layer.3\""));
  }
}

TEST(LocalWorldTest, DifferingVerbsAreAnErrorOnEveryRank) {
  const std::vector<absl::Status> results = StatusOfRanks(2, [](Communicator& comm) {
    std::vector<std::byte> dst(8);
    return comm.rank() == 0 ? comm.Barrier({"end of step", 4}) : comm.Broadcast(dst, 0, {"seed", 4});
  });
  // The rank that looks first names the other's call. The other repeats that sentence or finds the same.
  for (const absl::Status& status : results) {
    EXPECT_THAT(std::string(status.message()),
                testing::AnyOf(HasSubstr("rank 1 is in broadcast \"seed\" (step 4)"),
                               HasSubstr("rank 0 is in barrier \"end of step\" (step 4)")));
  }
}

}  // namespace
}  // namespace angel_ptm
