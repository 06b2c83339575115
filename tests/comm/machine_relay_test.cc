// Machines that exchange their ranks' progress over the loopback; each is a board with one rank and a relay. Silence is
// judged in simulated time, so no test waits for a limit.
#include "comm/machine_relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/peer_judge.h"
#include "comm/peer_watcher.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using Clock = std::chrono::steady_clock;

constexpr double kPeriodSeconds = 0.02, kLimitSeconds = 5;

// Returns whether the condition becomes true within half a minute.
bool Await(const std::function<bool()>& condition) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// Machine i of a run has rank i. The machine of rank 0 is the hub.
struct Machine {
  Machine(int own_rank, int size) : rank(own_rank), board(ProgressBoard::InProcess(size)) {
    board->Publish(rank, 12, "all-gather layer.2");
  }

  bool Hears(int peer) const {
    RankProgress progress;
    return board->Read(peer, &progress);
  }
  // Returns once the peer's machine has sent another word after this call began.
  void AwaitWord(int peer) const {
    const uint64_t heard = board->heard(peer);
    EXPECT_TRUE(Await([&] { return board->heard(peer) >= heard + 2; }));
  }
  // Returns what ends the run within so many looks, one a second, while this rank waits; "" if nothing does.
  std::string After(int seconds, const std::function<void()>& between_looks) {
    for (int i = 0; i < seconds; ++i) {
      between_looks();
      waited += 1;
      if (std::string sentence = judge.Look(1, waited); !sentence.empty()) return sentence;
    }
    return "";
  }

  const int rank;
  const std::shared_ptr<ProgressBoard> board;
  PeerJudge judge{board, rank, kLimitSeconds};
  double waited = 0;
  std::unique_ptr<MachineRelay> relay;
};

struct Machines {
  explicit Machines(int size) {
    for (int rank = 0; rank < size; ++rank) {
      Machine& machine = *list.emplace_back(std::make_unique<Machine>(rank, size));
      auto relay = rank == 0 ? MachineRelay::AtHub(machine.board)
                             : MachineRelay::ToHub(machine.board, hub().relay->hub(), kPeriodSeconds);
      EXPECT_TRUE(relay.ok()) << relay.status();
      machine.relay = *std::move(relay);
      EXPECT_TRUE(rank == 0 || machine.relay->AwaitHub(30).ok());
    }
    for (int rank = 1; rank < size; ++rank) {
      EXPECT_TRUE(Await([&] { return hub().Hears(rank) && list[static_cast<size_t>(rank)]->Hears(0); }));
    }
  }
  Machine& operator[](int rank) { return *list[static_cast<size_t>(rank)]; }
  Machine& hub() { return *list[0]; }

  std::vector<std::unique_ptr<Machine>> list;
};

std::string Host() {
  std::string host(64, '\0');
  gethostname(host.data(), host.size() - 1);
  return host.c_str();
}

TEST(MachineRelayTest, TheHubHearsAllAndTheOthersHearTheHub) {
  Machines machines(3);
  machines[1].board->Publish(1, 13, "backward layer.3");
  RankProgress progress;
  EXPECT_TRUE(Await([&] { return machines.hub().board->Read(1, &progress) && progress.step == 13; }));
  EXPECT_EQ(progress.Where(), "step 13 in backward layer.3");
  EXPECT_EQ(progress.process_id, getpid());
  EXPECT_EQ(progress.host.data(), Host());
  EXPECT_EQ(progress.remote, 1);
  EXPECT_TRUE(machines.hub().Hears(2));
  // Only the hub hears all machines, so traffic is not quadratic.
  EXPECT_FALSE(machines[1].Hears(2));
  EXPECT_FALSE(machines[2].Hears(1));
  // A machine does not pass on as its own what it hears of another.
  EXPECT_TRUE(machines[1].board->Read(1, &progress));
  EXPECT_EQ(progress.remote, 0);
}

// More ranks than one datagram holds.
TEST(MachineRelayTest, AMachineMayHaveManyRanks) {
  constexpr int kSize = 20;
  Machine hub(0, kSize), other(1, kSize);
  for (int r = 2; r < kSize; ++r) other.board->Publish(r, r, "forward");
  hub.relay = *MachineRelay::AtHub(hub.board);
  other.relay = *MachineRelay::ToHub(other.board, hub.relay->hub(), kPeriodSeconds);
  for (int r = 1; r < kSize; ++r) EXPECT_TRUE(Await([&] { return hub.Hears(r); })) << r;
}

TEST(MachineRelayTest, ASlowRankOfAnotherMachineIsNotSilent) {
  Machines machines(2);
  machines[1].board->Publish(1, 12, "");
  EXPECT_EQ(machines.hub().After(20,
                                 [&] {
                                   const uint64_t signs = machines[1].board->signs(1);
                                   machines[1].board->Beat(1);
                                   EXPECT_TRUE(Await([&] { return machines.hub().board->signs(1) > signs; }));
                                 }),
            "");
}

TEST(MachineRelayTest, AHangingRankIsNamedOnAllMachines) {
  Machines machines(3);
  machines[1].board->Publish(1, 12, "backward layer.3");
  const std::string sentence = machines.hub().After(20, [&] {
    machines[1].board->Beat(1);
    machines[2].board->Sign(2);
    machines.hub().AwaitWord(1);
    machines.hub().AwaitWord(2);
  });
  EXPECT_THAT(sentence, MatchesRegex("rank 1 .pid " + std::to_string(getpid()) + " on host " + Host() +
                                     ". hangs at step 12 in backward layer.3 and gave no sign of life for [5-7].0 s "
                                     ".communication.timeout_seconds is 5.; rank 0 waits for it at step 12 in "
                                     "all-gather layer.2"));
  EXPECT_TRUE(machines.hub().board->Accuse(sentence));
  for (int rank = 1; rank < 3; ++rank) {
    EXPECT_TRUE(Await([&] { return machines[rank].board->Verdict() == sentence; })) << rank;
    EXPECT_FALSE(machines[rank].board->Accuse("rank 0: waits no longer")) << rank;
  }
}

TEST(MachineRelayTest, AnErrorOfOneMachineReachesTheOthers) {
  Machines machines(3);
  const std::string sentence = "rank 2: cannot write checkpoint: no space left on device";
  EXPECT_TRUE(machines[2].board->Accuse(sentence));
  EXPECT_TRUE(Await([&] { return machines[0].board->Verdict() == sentence; }));
  EXPECT_TRUE(Await([&] { return machines[1].board->Verdict() == sentence; }));
}

TEST(MachineRelayTest, ALostMachineIsNotMistakenForAHangingRank) {
  Machines machines(2);
  machines[1].relay.reset();
  EXPECT_THAT(
      machines.hub().After(20, [] {}),
      MatchesRegex("the machine of rank 1 .pid [0-9]+ on host .*. gave no sign of life for [5-7].0 s "
                   ".communication.timeout_seconds is 5.: it or its network is stopped or lost; the rank was at "
                   "step 12 in all-gather layer.2; rank 0 waits for it at step 12 in all-gather layer.2"));
}

TEST(MachineRelayTest, ALostHubEndsTheWaitsOfTheOthers) {
  Machines machines(2);
  EXPECT_EQ(machines[1].After(20,
                              [&] {
                                machines.hub().board->Sign(0);
                                machines[1].AwaitWord(0);
                              }),
            "");
  machines.hub().relay.reset();
  EXPECT_THAT(machines[1].After(20, [] {}), HasSubstr("the machine of rank 0 (pid "));
}

// The whole job is suspended: an hour passes between two looks, during which nobody says anything.
TEST(MachineRelayTest, SuspendedTimeIsNoSilence) {
  Machines machines(2);
  machines[1].relay.reset();
  RunningTime time(100), waited(100);
  EXPECT_EQ(machines.hub().judge.Look(time.Look(100.2), 100), "");
  EXPECT_EQ(machines.hub().judge.Look(time.Look(3700), 100), "");
  EXPECT_EQ(machines.hub().judge.Look(time.Look(3700.2), 100), "");
}

TEST(MachineRelayTest, ARankThatFinishedIsNotWaitedFor) {
  Machines machines(2);
  machines[1].board->Finish(1);
  machines[1].relay.reset();  // announces the end with its last word
  RankProgress progress;
  EXPECT_TRUE(
      Await([&] { return machines.hub().board->Read(1, &progress) && progress.state == RankProgress::kFinished; }));
  EXPECT_EQ(machines.hub().After(20, [] {}), "");
}

TEST(MachineRelayTest, AnotherRunsWordsAreIgnored) {
  Machines machines(2);
  RelayHub other_run = machines.hub().relay->hub();
  ++other_run.token;
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  board->Publish(1, 99, "another run");
  for (int i = 0; i < 99; ++i) board->Sign(1);
  EXPECT_TRUE(board->Accuse("another run ends"));
  auto stranger = MachineRelay::ToHub(board, other_run, kPeriodSeconds);
  ASSERT_TRUE(stranger.ok()) << stranger.status();
  EXPECT_THAT(std::string((*stranger)->AwaitHub(0.3).message()), HasSubstr("the machine of rank 0 did not answer"));
  RankProgress progress;
  EXPECT_TRUE(machines.hub().board->Read(1, &progress));
  EXPECT_EQ(progress.step, 12);
  EXPECT_EQ(machines.hub().board->Verdict(), "");
}

TEST(MachineRelayTest, GarbageIsIgnored) {
  Machines machines(2);
  const RelayHub& hub = machines.hub().relay->hub();
  auto socket = UdpSocket::Open();
  ASSERT_TRUE(socket.ok()) << socket.status();
  std::mt19937_64 random(1);
  for (size_t bytes = 0; bytes < 2000; bytes += 3) {
    std::vector<std::byte> datagram(bytes);
    for (std::byte& byte : datagram) byte = static_cast<std::byte>(random() % 3 == 0 ? random() : 0);
    // Every second datagram has the right token, and a kind and a count that are possible.
    if (bytes % 2 == 0 && bytes > 16) {
      std::memcpy(datagram.data(), &hub.token, sizeof(hub.token));
      const int32_t kind = 1, count = static_cast<int32_t>(bytes / 153);
      std::memcpy(datagram.data() + 8, &kind, sizeof(kind));
      std::memcpy(datagram.data() + 12, &count, sizeof(count));
    }
    for (int64_t i = 0; i < hub.address_count; ++i) (*socket)->Send(hub.addresses[static_cast<size_t>(i)], datagram);
  }
  machines.hub().AwaitWord(1);
  EXPECT_EQ(machines.hub().board->Verdict(), "");
}

// One rank is silent and every watcher has its own clock: one of them reports it, and all machines hear that.
TEST(MachineRelayTest, OneWatcherSpeaksForAllMachines) {
  Machines machines(3);
  machines[1].board->Publish(1, 12, "backward layer.3");
  std::atomic<int> said{0};
  const PeerWatcher::Options options = {
      .limit_seconds = 1.5, .period_seconds = 0.05, .on_loss = [&](std::string_view) { ++said; }};
  PeerWatcher first(machines[0].board, 0, options), third(machines[2].board, 2, options);
  const Clock::time_point start = Clock::now();
  EXPECT_TRUE(Await([&] {
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    const bool first_ended = !first.Poll(waited).ok(), third_ended = !third.Poll(waited).ok();
    return first_ended && third_ended;
  }));
  EXPECT_EQ(said, 1);
  EXPECT_THAT(std::string(third.status().message()), HasSubstr("rank 1 (pid "));
  EXPECT_EQ(first.status().message(), third.status().message());
  EXPECT_TRUE(Await([&] { return machines[1].board->Verdict() == first.status().message(); }));
}

// The relay lives in a rank's process. When that rank is stopped, the other machines fall silent a moment before it
// does.
TEST(PeerJudgeTest, AStoppedRankOfThisMachineIsNotMistakenForALostHub) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(3);
  RankProgress hub;
  hub.state = RankProgress::kRunning;
  board->Mirror(0, hub, 1, 1);
  board->Publish(1, 12, "backward");
  PeerJudge judge(board, 2, /*limit_seconds=*/5);
  EXPECT_EQ(judge.Look(1, 100), "");
  board->Sign(1);
  board->Beat(1);
  std::string sentence;
  for (int look = 0; look < 20 && sentence.empty(); ++look) sentence = judge.Look(0.5, 100);
  EXPECT_THAT(sentence, HasSubstr("rank 1 (pid "));
  EXPECT_THAT(sentence, testing::Not(HasSubstr("the machine of ")));
}

TEST(ProgressBoardTest, MirrorsOnlyWhatIsNewerAndNotItsOwn) {
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(2);
  RankProgress told, known;
  told.state = RankProgress::kRunning;
  told.step = 3;
  told.process_state = 'T';
  board->Mirror(1, told, 10, 5);
  told.step = 2;
  board->Mirror(1, told, 9, 5);
  ASSERT_TRUE(board->Read(1, &known));
  EXPECT_EQ(known.step, 3);
  EXPECT_EQ(board->heard(1), 2u);
  PeerJudge judge(board, 0, /*limit_seconds=*/5);
  board->Mirror(1, known, 10, 5);
  EXPECT_EQ(judge.Look(1, 100), "");
  board->Mirror(1, known, 10, 5);
  EXPECT_THAT(judge.Look(6, 100), HasSubstr(" is stopped at step 3 between two passes and gave no sign of life "));

  board->Publish(0, 7, "forward");
  board->Mirror(0, told, 1000, 1000);
  ASSERT_TRUE(board->Read(0, &known));
  EXPECT_EQ(known.step, 7);
  EXPECT_EQ(known.remote, 0);
}

}  // namespace
}  // namespace angel_ptm
