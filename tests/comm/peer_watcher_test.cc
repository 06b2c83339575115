// Liveness with real processes: forked ranks share a board and one kills itself.
#include "comm/peer_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "comm/peer_judge.h"
#include "comm/running_time.h"
#include "comm/shared_memory.h"

namespace angel_ptm {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;
using Clock = std::chrono::steady_clock;

// A board that forked children can open.
struct SharedBoard {
  explicit SharedBoard(int ranks) : size(ranks) {
    auto memory = SharedMemory::Create(ProgressBoard::BytesFor(size));
    EXPECT_TRUE(memory.ok()) << memory.status();
    handle = (*memory)->handle();
    board = ProgressBoard::In(*std::move(memory), size);
  }
  // Called in a child.
  std::shared_ptr<ProgressBoard> Open() const {
    auto memory = SharedMemory::Open(handle, SharedMemory::Access::kReadWrite);
    if (!memory.ok()) _exit(2);
    return ProgressBoard::In(*std::move(memory), size);
  }

  int size;
  SharedMemory::Handle handle;
  std::shared_ptr<ProgressBoard> board;
};

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

TEST(ProgressBoardTest, OnlyTheFirstAccusationCounts) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  EXPECT_EQ(board->Verdict(), "");
  const std::string sentence = "rank 1: cannot write " + std::string(600, 'x') + ": no space left on device";
  EXPECT_TRUE(board->Accuse(sentence));
  EXPECT_FALSE(board->Accuse("rank 0: rank 1 went away"));
  EXPECT_EQ(board->Verdict(), sentence);
}

// All ranks of a job, or their machine, are suspended for an hour. That does not count as silence.
TEST(RunningTimeTest, AGapInWhichTheWaiterDidNotRunCountsNextToNothing) {
  RunningTime time(100.0);
  EXPECT_NEAR(time.Look(100.2), 0.2, 1e-9);
  EXPECT_LE(time.Look(3700.2), RunningTime::kGapSecondsMax);
  EXPECT_NEAR(time.Look(3700.4), 0.2, 1e-9);
  EXPECT_LT(time.seconds(), 1.0);
}

// Two ranks in simulated time: rank 0, which waits all the time, judges rank 1 and looks every 0.2 s.
struct Judged {
  explicit Judged(double limit_seconds = 5) : judge(board, 0, limit_seconds) {}

  std::string After(double seconds, const std::function<void(ProgressBoard&)>& between_looks) {
    for (double t = 0; t < seconds; t += 0.2) {
      between_looks(*board);
      waited += 0.2;
      if (std::string sentence = judge.Look(0.2, waited); !sentence.empty()) return sentence;
    }
    return "";
  }

  double waited = 0;
  std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  PeerJudge judge;
};

TEST(PeerJudgeTest, ARankThatHangsInAStepIsNamedAfterTheLimit) {
  Judged judged;
  judged.board->Publish(0, 12, "all-gather layer.2");
  judged.board->Publish(1, 12, "backward layer.3");
  const auto beats = [](ProgressBoard& board) { board.Beat(1); };
  EXPECT_EQ(judged.After(4.8, beats), "");
  EXPECT_THAT(
      judged.After(2, beats),
      MatchesRegex("rank 1 .pid [0-9]+ on host .*. hangs at step 12 in backward layer.3 and gave no sign of life "
                   "for 5.[0-9] s .communication.timeout_seconds is 5.; rank 0 waits for it at step 12 in "
                   "all-gather layer.2"));
}

TEST(PeerJudgeTest, ARankThatDoesNotRunIsSilentWhereverItIs) {
  Judged judged;
  judged.board->Publish(1, 12, "");
  EXPECT_THAT(judged.After(7, [](ProgressBoard&) {}), HasSubstr(" does not run at step 12 between two passes and "));
  // The same with a limit shorter than a rank may stand still under a long limit.
  Judged hasty(/*limit_seconds=*/1.5);
  hasty.board->Publish(1, 12, "");
  EXPECT_THAT(hasty.After(3, [](ProgressBoard&) {}), HasSubstr(" does not run at step 12 between two passes and "));
}

// A rank that writes a checkpoint, opens data or removes files may take as long as it likes while its process runs.
TEST(PeerJudgeTest, ASlowRankBetweenStepsIsNotSilent) {
  Judged judged;
  judged.board->Publish(1, 12, "backward layer.3");
  judged.board->Publish(1, 12, "");
  EXPECT_EQ(judged.After(600, [](ProgressBoard& board) { board.Beat(1); }), "");
}

TEST(PeerJudgeTest, AWitnessThatWaitsItselfIsNotSilent) {
  Judged judged;
  judged.board->Publish(1, 12, "all-gather layer.2");
  EXPECT_EQ(judged.After(600, [](ProgressBoard& board) { board.Sign(1); }), "");
}

TEST(PeerJudgeTest, NobodyIsLostWhereNobodyWaits) {
  Judged judged;
  judged.board->Publish(1, 12, "backward layer.3");
  EXPECT_EQ(judged.After(600, [&](ProgressBoard&) { judged.waited = 0; }), "");
}

// With many ranks on a machine, a look asks /proc only about ranks whose beats have stopped.
TEST(PeerJudgeTest, OnlyARankWhoseBeatsStandIsLookedAt) {
  const SharedBoard shared(2);
  const pid_t child = fork();
  if (child == 0) {
    shared.Open()->Publish(1, 12, "backward");
    _exit(0);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  PeerJudge judge(shared.board, 0, /*limit_seconds=*/5);
  for (int i = 0; i < 3; ++i) {
    shared.board->Beat(1);
    EXPECT_EQ(judge.Look(0.2, 0), "");
  }
  EXPECT_THAT(judge.Look(0.2, 0), HasSubstr("died at step 12 in backward"));
}

TEST(PeerWatcherTest, AStoppedProcessIsNamedAsStopped) {
  const SharedBoard shared(2);
  const pid_t child = fork();
  if (child == 0) {
    shared.Open()->Publish(1, 12, "backward layer.3");
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  shared.board->Publish(0, 12, "all-gather layer.2");
  std::atomic<int> said{0};
  PeerWatcher watcher(shared.board, 0,
                      {.limit_seconds = 0.5, .period_seconds = 0.02, .on_loss = [&](std::string_view) { ++said; }});
  const Clock::time_point start = Clock::now();
  while (watcher.Poll(std::chrono::duration<double>(Clock::now() - start).count()).ok() &&
         Clock::now() - start < std::chrono::seconds(60)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_THAT(std::string(watcher.status().message()),
              HasSubstr(" is stopped at step 12 in backward layer.3 and gave no sign of life for "));
  EXPECT_EQ(said, 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST(PeerWatcherTest, KilledProcessIsNamedWithItsPlace) {
  const SharedBoard shared(2);
  const pid_t child = fork();
  if (child == 0) {
    shared.Open()->Publish(1, 12, "backward layer.3 gather");
    raise(SIGKILL);
  }
  shared.board->Publish(0, 12, "all-gather layer.2");
  const PeerWatcher watcher(shared.board, 0, {});
  const Clock::time_point start = Clock::now();
  // The child stays a zombie until waitpid, which counts as dead.
  const std::string sentence = AwaitLoss(watcher, 5);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
  std::string host(64, '\0');
  gethostname(host.data(), host.size() - 1);
  const std::string unchanged = ", unchanged for [0-9.]+ s";
  EXPECT_THAT(sentence, MatchesRegex("rank 1 .pid " + std::to_string(child) + " on host " + host.c_str() +
                                     ". died at step 12 in backward layer.3 gather" + unchanged +
                                     "; rank 0 was at step 12 in all-gather layer.2" + unchanged));
  int exit_status = 0;
  waitpid(child, &exit_status, 0);
  EXPECT_TRUE(WIFSIGNALED(exit_status));
}

// A collective can meet a dead peer before the watcher's next look, because a read from a peer's memory fails as soon
// as the peer is gone. The caller that gets the error waits for the verdict; otherwise the run would end without saying
// who died and where.
TEST(PeerWatcherTest, ALossBetweenTwoLooksIsFoundWhenAskedFor) {
  const SharedBoard shared(2);
  const pid_t child = fork();
  if (child == 0) {
    shared.Open()->Publish(1, 12, "reduce head");
    for (;;) pause();
  }
  RankProgress progress;
  while (!shared.board->Read(1, &progress)) usleep(1000);
  std::atomic<int> calls{0};
  PeerWatcher watcher(shared.board, 0, {.period_seconds = 3600, .on_loss = [&](std::string_view) { ++calls; }});
  EXPECT_TRUE(watcher.AwaitLoss(0.05).ok());
  kill(child, SIGKILL);
  EXPECT_THAT(std::string(watcher.AwaitLoss(30).message()), HasSubstr(") died at step 12 in reduce head"));
  EXPECT_EQ(calls, 1);
  waitpid(child, nullptr, 0);
}

TEST(PeerWatcherTest, FinishedProcessIsNoLoss) {
  const SharedBoard shared(2);
  const pid_t child = fork();
  if (child == 0) {
    const std::shared_ptr<ProgressBoard> own = shared.Open();
    own->Publish(1, 12, "last step");
    own->Finish(1);
    _exit(0);
  }
  int exit_status = 0;
  waitpid(child, &exit_status, 0);
  ASSERT_EQ(exit_status, 0);
  RankProgress progress;
  ASSERT_TRUE(shared.board->Read(1, &progress));
  EXPECT_EQ(progress.process_id, child);
  shared.board->Publish(0, 12, "checkpoint");
  const PeerWatcher watcher(shared.board, 0, {.period_seconds = 0.02});
  EXPECT_EQ(AwaitLoss(watcher, 0.3), "");
}

// A failed rank reports its own reason. Its peers stop waiting, learn the reason and do not repeat it.
TEST(PeerWatcherTest, AFailedRanksReasonReachesItsPeersAndIsNotSaidTwice) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(3);
  for (int r = 0; r < 3; ++r) board->Publish(r, 7, "forward");
  std::atomic<int> said{0};
  std::string sentence;
  {
    const PeerWatcher watcher(board, 0, {.period_seconds = 0.01, .on_loss = [&](std::string_view) { ++said; }});
    EXPECT_EQ(AwaitLoss(watcher, 0.1), "");
    EXPECT_TRUE(board->Accuse("rank 2: disk full while saving"));
    sentence = AwaitLoss(watcher, 5);
  }
  EXPECT_EQ(sentence, "rank 2: disk full while saving");
  EXPECT_EQ(said, 0);
}

// Applies `change` to what rank 1 (this process) has published in the shared memory, and returns the loss that rank 0
// then sees; "" if none.
std::string LossAfter(const std::function<void(RankProgress&)>& change) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  board->Publish(1, 12, "backward");
  RankProgress progress;
  EXPECT_TRUE(board->Read(1, &progress));
  change(progress);
  return board->Died(progress) ? PeerJudge::Death(1, progress) : "";
}

TEST(PeerWatcherTest, ProcessIdTakenByAnotherProcessIsADeath) {
  EXPECT_EQ(LossAfter([](RankProgress&) {}), "");
  EXPECT_THAT(LossAfter([](RankProgress& p) { --p.process_start_ticks; }),
              HasSubstr("(pid " + std::to_string(getpid()) + " on host "));
}

TEST(PeerWatcherTest, SaysHowLongTheDeadHadBeenAtIt) {
  EXPECT_THAT(LossAfter([](RankProgress& p) {
                --p.process_start_ticks;
                p.changed_ns -= int64_t{90} * 1000 * 1000 * 1000;
              }),
              ContainsRegex(". died at step 12 in backward, unchanged for 1m3[0-9]s$"));
}

// Two containers share one /dev/shm: a process number from the other container means nothing here.
TEST(PeerWatcherTest, ProcessesOfAnotherPidNamespaceAreNotWatched) {
  const auto gone = [](RankProgress& p) { p.process_id = -5; };
  EXPECT_THAT(LossAfter(gone), HasSubstr("rank 1 (pid -5 on host "));
  EXPECT_EQ(LossAfter([&](RankProgress& p) {
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
  const std::optional<ProcessState> state = StateOfProcess(getpid());
  const bool died = board->Died(progress);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(state.has_value());
  EXPECT_FALSE(died);
  EXPECT_EQ(StateOfProcess(getpid())->start_ticks, progress.process_start_ticks);
  EXPECT_EQ(StateOfProcess(-5)->start_ticks, -1);
}

}  // namespace
}  // namespace angel_ptm
