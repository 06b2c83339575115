// angel-ptm train: starts the ranks (processes of mpirun, or threads) and runs the trainer on each.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/train/trainer.h"
#include "comm/local.h"
#include "comm/mpi_environment.h"
#include "comm/peer_watcher.h"
#include "comm/progress_board.h"
#include "launch/commands.h"
#include "launch/machine_cores.h"
#include "launch/process.h"
#include "launch/stop_signals.h"
#ifdef ANGEL_PTM_WITH_MPI
#include "comm/mpi.h"
#endif

namespace angel_ptm {
namespace {

std::atomic<bool>& stop_requested = StopRequested();

bool StartedByMpirun() {
  return StartedByMpiLauncher([](const char* name) { return std::getenv(name); });
}

// Beside those of the kernels: four lanes, the rank's own and what watches its peers.
constexpr int kOtherThreads = 6;

// ranks: of this process. One process `speaks`: says which cores are left idle.
absl::Status CheckStart(const TrainConfig& config, const RunFacts& facts, int ranks, bool speaks) {
  RETURN_IF_ERROR(Validate(config, facts));
  const int threads = Derive(config, facts).threads_per_rank;
  if (speaks && config.numerics().threads_per_rank() == 0) {
    const std::string warning = IdleCoresWarning(facts.local_ranks, threads, facts.kernel_threads_max);
    if (!warning.empty()) std::fprintf(stderr, "angel-ptm: %s\n", warning.c_str());
  }
  return CheckThreads(ranks * threads, ranks * kOtherThreads);
}

TrainerOptions OptionsFor(int rank, bool resume, std::shared_ptr<ProgressBoard> board) {
  return {.resume = resume,
          .stop_requested = &stop_requested,
          .out = rank == 0 ? stdout : nullptr,
          .publish = [board = std::move(board), rank](int64_t step, std::string_view activity) {
            board->Publish(rank, step, activity);
          }};
}

// The first sentence of a failing run tells why; the others follow from it.
absl::Status TrainOnThreads(const TrainConfig& config, const RunFacts& facts, bool resume) {
  const int size = facts.world_size;
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(size);
  LocalWorld world(size, {.timeout_seconds = config.communication().timeout_seconds()});
  std::vector<absl::Status> results(size);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        results[rank] = TrainRank(config, facts, OptionsFor(rank, resume, board), *communicator);
        if (!results[rank].ok()) world.Abort(std::string(results[rank].message()));
      });
    }
  }
  for (const absl::Status& result : results) {
    if (!result.ok() && !absl::IsUnavailable(result)) return result;
  }
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

#ifdef ANGEL_PTM_WITH_MPI
// How long an error that a dead rank may have caused waits for the watcher's verdict; well within the 10 s in which a
// run with a killed rank ends. A process with a large memory takes seconds to go.
constexpr double kVerdictSeconds = 5;

// *said becomes true when the error has been printed: a rank that died cannot speak, so its peers do, at once.
absl::Status TrainOneRank(MpiWorld& world, const TrainConfig& config, const RunFacts& facts, bool resume, bool* said) {
  ASSIGN_OR_RETURN(const std::string board_path, world.MakeSharedName("/dev/shm"));
  ASSIGN_OR_RETURN(const std::shared_ptr<ProgressBoard> board, ProgressBoard::Open(board_path, world.size()));
  RETURN_IF_ERROR(world.Meet());
  if (world.node_rank() == 0) board->Unlink();
  board->Publish(world.rank(), -1, "start-up");
  std::atomic<bool> death_said = false;
  PeerWatcher watcher(board, world.rank(), [&death_said](std::string_view sentence) {
    std::fprintf(stderr, "angel-ptm: %.*s\n", static_cast<int>(sentence.size()), sentence.data());
    death_said = true;
  });
  const WaitOptions wait{.timeout_seconds = config.communication().timeout_seconds(),
                         .poll = [&watcher] { return watcher.status(); }};
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator, world.Create(wait, MpiTransport::kAuto));
  // Messages are slower: a run on a machine that forbids direct reads should not fall back to them unseen.
  if (world.rank() == 0) std::printf("transport: %s\n", world.transport_description().c_str());
  const absl::Status status = TrainRank(config, facts, OptionsFor(world.rank(), resume, board), *communicator);
  if (status.ok()) {
    board->Finish(world.rank());
    return status;
  }
  // A read from a dead rank's memory fails before the watcher's next look; what the watcher finds is the true reason.
  absl::Status reason = absl::IsUnavailable(status) ? watcher.AwaitLoss(kVerdictSeconds) : absl::OkStatus();
  if (reason.ok()) reason = status;
  board->Fail(world.rank(), std::string(reason.message()));
  *said = death_said;
  return reason;
}

// A user's mistake is the same sentence on every rank, and rank 0 says it; a failure is said by the rank that failed.
// The others give them five seconds, in which mpirun ends the job with SIGTERM. False if nothing of the kind happened:
// the error is this rank's own, or it alone knows.
bool EndsWithoutThisRanksWord(const absl::Status& status) {
  const bool likely = absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsAlreadyExists(status) ||
                      absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
                      absl::IsUnavailable(status);
  for (int i = 0; likely && i < 250 && !stop_requested.load(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return likely && stop_requested.load();
}

// Ends all ranks on an error, which MPI would otherwise wait for.
absl::Status TrainOnMpi(TrainConfig& config, bool resume) {
  ASSIGN_OR_RETURN(const std::unique_ptr<MpiWorld> world, MpiWorld::Init());
  RunFacts facts = MachineFacts();
  facts.world_size = world->size();
  facts.local_ranks = world->node_size();
  facts.started_by_mpirun = true;
  facts.rank_cores = CoresOfRank(facts.local_ranks);
  AccountForRanks(config, facts.local_ranks, &facts);
  absl::Status status = CheckStart(config, facts, 1, world->rank() == 0);
  bool said = false;
  if (status.ok()) status = TrainOneRank(*world, config, facts, resume, &said);
  if (status.ok()) return status;
  if (said) world->Abort(1);
  if (world->rank() == 0 || !EndsWithoutThisRanksWord(status)) {
    const std::string sentence(status.message());
    const bool says_who = world->rank() == 0 || absl::StartsWith(sentence, "rank ");
    std::fprintf(stderr, "angel-ptm: %s%s\n", says_who ? "" : absl::StrCat("rank ", world->rank(), ": ").c_str(),
                 sentence.c_str());
  }
  world->Abort(1);
}
#endif

}  // namespace

absl::Status TrainCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments, Arguments::Parse(words, WithConfig({.switches = {"resume"}})));
  ASSIGN_OR_RETURN(TrainConfig config, ConfigFrom(arguments));
  const bool resume = arguments.Has("resume");
  InstallStopSignals();
#ifdef ANGEL_PTM_WITH_MPI
  const bool local = config.communication().transport() == CommunicationConfig::LOCAL;
  if (StartedByMpirun() && !local) return TrainOnMpi(config, resume);
#endif
  RunFacts facts = MachineFacts();
  facts.started_by_mpirun = StartedByMpirun();
  facts.world_size = facts.local_ranks = std::max(1, config.communication().local_ranks());
  AccountForRanks(config, 1, &facts);
  RETURN_IF_ERROR(CheckStart(config, facts, facts.local_ranks, true));
  return TrainOnThreads(config, facts, resume);
}

}  // namespace angel_ptm
