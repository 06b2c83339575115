// A rank kills or stops itself in the middle of a run; the others must report it, once, and end. Run by
// killed_rank_test.sh under mpirun:
//
//   comm_killed_rank direct_reads|messages <victim|none> before|inside|staged|outside|stopped|unmet
//
// The victim dies before or inside step 12's all-gather, stops before it, or stops before the ranks have met. With
// "inside" the call is large and peers read an arena in place; with "staged" it is as large, but its memory lies
// outside any arena and travels in many pieces. With "outside" there are three ranks and the victim dies before the
// call: the last rank waits, in a group of the survivors, for the first of them, which waits for the victim. With
// "none" no rank dies and all exit with 0. SIGTERM, which mpirun sends to the survivors, only sets a flag here, as in
// the trainer.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/mpi.h"
#include "comm/peer_watcher.h"
#include "comm/progress_board.h"

namespace angel_ptm {
namespace {

volatile sig_atomic_t terminated = 0;

constexpr int64_t kLastStep = 12;

struct Death {
  int victim = -1;  // nobody
  std::string kind;

  bool inside() const { return kind == "inside" || kind == "staged"; }
  bool stops() const { return kind == "stopped" || kind == "unmet"; }
  // The limit on silence. It does not matter where the victim dies, because death is noticed without it.
  double limit_seconds() const { return stops() ? 3 : 30; }
};

void End(int signal) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  // A single unbuffered write, so that the line is out before the process dies.
  dprintf(STDERR_FILENO, "dies at %lld ms\n", static_cast<long long>(now.tv_sec) * 1000 + now.tv_nsec / 1000000);
  usleep(100000);  // gives mpirun time to pass the line on
  raise(signal);
}

// A victim that dies inside the call does so while its peers read from it or wait for its message. The call is
// therefore large, and the victim enters it late, when the peers are there.
absl::Status Steps(Communicator& comm, ProgressBoard& board, const Death& death) {
  const bool inside = death.inside();
  const size_t bytes = inside ? size_t{64} << 20 : size_t{1} << 20;
  std::vector<std::byte> dst(static_cast<size_t>(comm.size()) * bytes), outside(bytes);
  std::span<const std::byte> src = outside;
  std::shared_ptr<std::byte> arena;
  if (death.kind == "inside") {
    ASSIGN_OR_RETURN(arena, comm.MakeArena(static_cast<int64_t>(bytes), 1, {"arena"}));
    if (arena != nullptr) src = {arena.get(), bytes};
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> group,
                   comm.Split(comm.rank() == death.victim ? 0 : 1, {"survivors"}));
  for (int64_t step = 0; step < 40; ++step) {
    board.Publish(comm.rank(), step, "forward layer.1");
    usleep(20000);
    board.Publish(comm.rank(), step, "all-gather layer.2");
    if (step == kLastStep && comm.rank() == death.victim) {
      if (!inside) End(death.stops() ? SIGSTOP : SIGKILL);
      if (inside) {
        std::thread(End, SIGKILL).detach();
        usleep(98000);
      }
    }
    Communicator& with = death.kind == "outside" && step == kLastStep && comm.rank() == 2 ? *group : comm;
    RETURN_IF_ERROR(
        with.AllGather(std::span(dst).first(static_cast<size_t>(with.size()) * bytes), src, {"layer.2", step}));
    // The call may end before the other thread has raised the signal.
    while (inside && step == kLastStep && comm.rank() == death.victim) pause();
  }
  return absl::OkStatus();
}

absl::Status Run(MpiWorld& world, MpiTransport transport, const Death& death) {
  if (death.kind == "unmet" && world.rank() == death.victim) End(SIGSTOP);
  RETURN_IF_ERROR(world.FindMachines());
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, world.ShareMemory(ProgressBoard::BytesFor(world.size())));
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::In(std::move(memory), world.size());
  board->Publish(world.rank(), -1, "start-up");
  PeerWatcher watcher(board, world.rank(),
                      {.limit_seconds = death.limit_seconds(), .on_loss = [](std::string_view sentence) {
                         std::fprintf(stderr, "said: %.*s\n", static_cast<int>(sentence.size()), sentence.data());
                       }});
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                   world.Create({.timeout_seconds = WaitOptions::kForever,
                                 .poll = [&](double waited_seconds) { return watcher.Poll(waited_seconds); }},
                                transport));
  absl::Status status = Steps(*comm, *board, death);
  if (status.ok()) {
    board->Finish(world.rank());
  } else {
    watcher.AwaitLoss(5).IgnoreError();
  }
  return status;
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  using namespace angel_ptm;
  signal(SIGTERM, [](int) { terminated = 1; });
  const std::string transport = argc > 1 ? argv[1] : "";
  const std::string victim = argc > 2 ? argv[2] : "none";
  const Death death{.victim = victim == "none" ? -1 : std::stoi(victim), .kind = argc > 3 ? argv[3] : ""};
  auto world = MpiWorld::Start(death.limit_seconds(), 60, nullptr);
  if (!world.ok()) return 3;
  const absl::Status status =
      Run(**world, transport == "messages" ? MpiTransport::kMessages : MpiTransport::kDirectReads, death);
  if (status.ok()) return 0;
  if ((*world)->meeting().speaks()) std::fprintf(stderr, "said: %s\n", std::string(status.message()).c_str());
  std::fprintf(stderr, "ended: %s%s\n", std::string(status.message()).c_str(), terminated ? " (SIGTERM came)" : "");
  usleep(500000);  // gives the others time to speak
  (*world)->Abort(1);
}
