// Liveness with real processes: forked ranks share a board, one kills itself.
#include "comm/peer_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <thread>

#include "comm/shared_memory.h"
#include "comm/shared_record.h"

namespace angel_ptm {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;
using Clock = std::chrono::steady_clock;

std::string BoardPath(const char* name) {
  return testing::TempDir() + "/angel-ptm-board." + name + "." + std::to_string(getpid());
}

std::string AwaitLoss(const PeerWatcher& watcher, double seconds_max) {
  const Clock::time_point start = Clock::now();
  while (watcher.status().ok() && Clock::now() - start < std::chrono::duration<double>(seconds_max)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return std::string(watcher.status().message());
}

TEST(ProgressBoardTest, ShowsWhatWasPublishedLast) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  RankProgress progress;
  EXPECT_FALSE(board->Read(1, &progress));
  board->Publish(1, 3, "forward layer.1");
  board->Publish(1, 4, std::string(300, 'x'));
  ASSERT_TRUE(board->Read(1, &progress));
  EXPECT_EQ(progress.step, 4);
  EXPECT_EQ(progress.process_id, getpid());
  EXPECT_EQ(std::string(progress.activity.data()), std::string(103, 'x'));
}

TEST(ProgressBoardTest, ReadersNeverSeeHalfOfAWrite) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(1);
  std::atomic<bool> stop{false};
  board->Publish(0, 0, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
  std::thread writer([&] {
    for (int64_t i = 0; !stop; ++i) board->Publish(0, i % 26, std::string(40, static_cast<char>('a' + i % 26)));
  });
  for (int64_t reads = 0; reads < 20000;) {
    RankProgress p;
    if (!board->Read(0, &p)) continue;
    ++reads;
    EXPECT_EQ(std::string(p.activity.data()), std::string(40, static_cast<char>('a' + p.step)));
  }
  stop = true;
  writer.join();
}

TEST(PeerWatcherTest, KilledProcessIsNamedWithItsPlace) {
  const std::string path = BoardPath("killed");
  auto board = ProgressBoard::Open(path, 2);
  ASSERT_TRUE(board.ok()) << board.status();
  const pid_t child = fork();
  if (child == 0) {
    auto own = ProgressBoard::Open(path, 2);
    if (!own.ok()) _exit(2);
    (*own)->Publish(1, 12, "backward layer.3 gather");
    raise(SIGKILL);
  }
  (*board)->Publish(0, 12, "all-gather layer.2");
  const PeerWatcher watcher(*board, 0, nullptr);
  const Clock::time_point start = Clock::now();
  // The child stays a zombie until waitpid: that is dead enough.
  const std::string sentence = AwaitLoss(watcher, 5);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
  std::string host(64, '\0');
  gethostname(host.data(), host.size() - 1);
  const std::string unchanged = ", unchanged for [0-9.]+ s";
  EXPECT_THAT(sentence, MatchesRegex("rank 1 .pid " + std::to_string(child) + " on host " + host.c_str() +
                                     ". died at step 12 in backward layer.3 gather" + unchanged +
                                     "; rank 0 was at step 12 in all-gather layer.2" + unchanged));
  (*board)->Unlink();
  int exit_status = 0;
  waitpid(child, &exit_status, 0);
  EXPECT_TRUE(WIFSIGNALED(exit_status));
}

// A collective can meet a dead peer before the watcher's next look: whoever gets the error waits for the verdict, or
// the run would end without saying who died and where (a read from a peer's memory fails the moment it is gone).
TEST(PeerWatcherTest, ALossBetweenTwoLooksIsFoundWhenAskedFor) {
  const std::string path = BoardPath("between_looks");
  auto board = ProgressBoard::Open(path, 2);
  ASSERT_TRUE(board.ok()) << board.status();
  const pid_t child = fork();
  if (child == 0) {
    auto own = ProgressBoard::Open(path, 2);
    if (!own.ok()) _exit(2);
    (*own)->Publish(1, 12, "reduce head");
    for (;;) pause();
  }
  RankProgress progress;
  while (!(*board)->Read(1, &progress)) usleep(1000);
  std::atomic<int> calls{0};
  PeerWatcher watcher(
      *board, 0, [&](std::string_view) { ++calls; }, /*period_seconds=*/3600);
  EXPECT_TRUE(watcher.AwaitLoss(0.05).ok());
  kill(child, SIGKILL);
  EXPECT_THAT(std::string(watcher.AwaitLoss(30).message()), HasSubstr(") died at step 12 in reduce head"));
  EXPECT_EQ(calls, 1);
  (*board)->Unlink();
  waitpid(child, nullptr, 0);
}

TEST(PeerWatcherTest, FinishedProcessIsNoLoss) {
  const std::string path = BoardPath("finished");
  auto board = ProgressBoard::Open(path, 2);
  ASSERT_TRUE(board.ok()) << board.status();
  const pid_t child = fork();
  if (child == 0) {
    auto own = ProgressBoard::Open(path, 2);
    if (!own.ok()) _exit(2);
    (*own)->Publish(1, 12, "last step");
    (*own)->Finish(1);
    _exit(0);
  }
  int exit_status = 0;
  waitpid(child, &exit_status, 0);
  ASSERT_EQ(exit_status, 0);
  RankProgress progress;
  ASSERT_TRUE((*board)->Read(1, &progress));
  EXPECT_EQ(progress.process_id, child);
  (*board)->Publish(0, 12, "checkpoint");
  const PeerWatcher watcher(*board, 0, nullptr, 0.02);
  EXPECT_EQ(AwaitLoss(watcher, 0.3), "");
  (*board)->Unlink();
}

// A failed rank says why itself: its peers stop waiting and know the reason, and stay quiet.
TEST(PeerWatcherTest, AFailedRanksReasonReachesItsPeersAndIsNotSaidTwice) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(3);
  for (int r = 0; r < 3; ++r) board->Publish(r, 7, "forward");
  std::atomic<int> deaths{0};
  std::string sentence;
  {
    const PeerWatcher watcher(
        board, 0, [&](std::string_view) { ++deaths; }, 0.01);
    EXPECT_EQ(AwaitLoss(watcher, 0.1), "");
    board->Fail(2, "disk full while saving");
    sentence = AwaitLoss(watcher, 5);
  }
  EXPECT_THAT(sentence, HasSubstr(") failed at step 7: disk full while saving; rank 0 was at step 7 in forward"));
  EXPECT_EQ(deaths, 0);
}

// What rank 1, this process, has published, changed in the shared file: the loss that rank 0 then sees, if any.
std::string LossAfter(const char* name, const std::function<void(RankProgress&)>& change) {
  const std::string path = BoardPath(name);
  const auto board = ProgressBoard::Open(path, 2);
  EXPECT_TRUE(board.ok()) << board.status();
  using Record = SharedRecord<RankProgress>;
  const auto memory = SharedMemory::Open(path, 2 * sizeof(Record));
  EXPECT_TRUE(memory.ok()) << memory.status();
  (*board)->Unlink();
  (*board)->Publish(1, 12, "backward");
  Record& record = static_cast<Record*>((*memory)->data())[1];
  RankProgress progress;
  EXPECT_TRUE(record.Read(&progress));
  change(progress);
  record.Write(progress);
  const PeerWatcher watcher(*board, 0, nullptr, 0.01);
  return AwaitLoss(watcher, 0.2);
}

TEST(PeerWatcherTest, ProcessIdTakenByAnotherProcessIsADeath) {
  EXPECT_EQ(LossAfter("same", [](RankProgress&) {}), "");
  EXPECT_THAT(LossAfter("taken", [](RankProgress& p) { --p.process_start_ticks; }),
              HasSubstr("(pid " + std::to_string(getpid()) + " on host "));
}

TEST(PeerWatcherTest, SaysHowLongTheDeadHadBeenAtIt) {
  EXPECT_THAT(LossAfter("unchanged",
                        [](RankProgress& p) {
                          --p.process_start_ticks;
                          p.changed_ns -= int64_t{90} * 1000 * 1000 * 1000;
                        }),
              ContainsRegex(". died at step 12 in backward, unchanged for 1m3[0-9]s$"));
}

// Two containers with one /dev/shm: the numbers of the other's processes say nothing here.
TEST(PeerWatcherTest, ProcessesOfAnotherPidNamespaceAreNotWatched) {
  const auto gone = [](RankProgress& p) { p.process_id = -5; };
  EXPECT_THAT(LossAfter("gone", gone), HasSubstr("rank 1 (pid -5 on host "));
  EXPECT_EQ(LossAfter("elsewhere",
                      [&](RankProgress& p) {
                        gone(p);
                        ++p.pid_namespace;
                      }),
            "");
}

TEST(PeerWatcherTest, AProcessThatCannotBeLookedAtIsAlive) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  board->Publish(1, 12, "backward");
  RankProgress progress;
  ASSERT_TRUE(board->Read(1, &progress));
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none = {0, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  const std::optional<int64_t> ticks = ProcessStartTicks(getpid());
  const bool died = board->Died(progress);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(ticks.has_value());
  EXPECT_FALSE(died);
  EXPECT_EQ(ProcessStartTicks(getpid()), progress.process_start_ticks);
  EXPECT_EQ(ProcessStartTicks(-5), -1);
}

}  // namespace
}  // namespace angel_ptm
