// A rank kills itself in the middle of a run; the others must say so and end. Run by killed_rank_test.sh under mpirun:
//
//   comm_killed_rank direct_reads|messages [none]
//
// With "none" nobody dies and all exit with 0. SIGTERM, which mpirun sends to the survivors, only sets a flag here, as
// in the trainer.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/mpi.h"
#include "comm/peer_watcher.h"
#include "comm/progress_board.h"

namespace angel_ptm {
namespace {

volatile sig_atomic_t terminated = 0;

absl::Status Steps(Communicator& comm, ProgressBoard& board, bool die) {
  std::vector<std::byte> dst(static_cast<size_t>(comm.size()) << 20), src(1 << 20);
  for (int64_t step = 0; step < 40; ++step) {
    board.Publish(comm.rank(), step, "forward layer.1");
    usleep(20000);
    board.Publish(comm.rank(), step, "all-gather layer.2");
    if (die && step == 12 && comm.rank() == 1) {
      timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      // One write, so that nothing is left in a buffer when the process is gone.
      dprintf(STDERR_FILENO, "dies at %lld ms\n", static_cast<long long>(now.tv_sec) * 1000 + now.tv_nsec / 1000000);
      usleep(100000);  // mpirun passes the line on
      raise(SIGKILL);
    }
    RETURN_IF_ERROR(comm.AllGather(dst, src, {"layer.2", step}));
  }
  return absl::OkStatus();
}

absl::Status Run(MpiWorld& world, MpiTransport transport, bool die) {
  ASSIGN_OR_RETURN(const std::string path, world.MakeSharedName("/dev/shm"));
  ASSIGN_OR_RETURN(const std::shared_ptr<ProgressBoard> board, ProgressBoard::Open(path, world.size()));
  board->Publish(world.rank(), -1, "start-up");
  RETURN_IF_ERROR(world.Meet());
  if (world.node_rank() == 0) board->Unlink();
  const PeerWatcher watcher(board, world.rank(), [](std::string_view sentence) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(sentence.size()), sentence.data());
  });
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                   world.Create({.timeout_seconds = 30, .poll = [&] { return watcher.status(); }}, transport));
  absl::Status status = Steps(*comm, *board, die);
  board->Finish(world.rank());
  return status;
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  using namespace angel_ptm;
  signal(SIGTERM, [](int) { terminated = 1; });
  auto world = MpiWorld::Init();
  if (!world.ok()) return 3;
  const std::string transport = argc > 1 ? argv[1] : "";
  const bool die = argc <= 2;
  const absl::Status status =
      Run(**world, transport == "messages" ? MpiTransport::kMessages : MpiTransport::kDirectReads, die);
  if (status.ok()) return 0;
  std::fprintf(stderr, "ended: %s%s\n", std::string(status.message()).c_str(), terminated ? " (SIGTERM came)" : "");
  (*world)->Abort(1);
}
