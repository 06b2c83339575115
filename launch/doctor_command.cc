// angel-ptm doctor: starts the ranks (processes of mpirun, or threads), which examine their machines.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/local.h"
#include "comm/nodes.h"
#include "launch/commands.h"
#include "launch/doctor.h"
#include "launch/last_word.h"
#include "launch/machine_cores.h"
#include "launch/start_mpi.h"
#include "launch/stop_signals.h"

namespace angel_ptm {
namespace {

// `ranks` of this machine may use `cores` cores together.
absl::StatusOr<DoctorRequest> RequestFrom(const Arguments& arguments, int ranks, int cores) {
  DoctorRequest request;
  request.cores = cores;
  ASSIGN_OR_RETURN(request.seconds, arguments.GetDouble("seconds", 50));
  constexpr double kSecondsMin = 1, kSecondsMax = 3600;
  if (!(request.seconds >= kSecondsMin && request.seconds <= kSecondsMax)) {
    return absl::InvalidArgumentError(absl::StrCat("--seconds: wanted 1 to 3600, got ", request.seconds));
  }
  const int kernel_threads_max = MachineFacts().kernel_threads_max;
  const int most = kernel_threads_max > 0 ? std::max(1, kernel_threads_max / ranks) : 1024;
  ASSIGN_OR_RETURN(const int64_t threads,
                   arguments.GetInt("threads-per-rank", std::min(std::max(1, cores / ranks), most)));
  if (threads < 1 || threads > most) {
    return absl::InvalidArgumentError(absl::StrCat("--threads-per-rank: wanted 1 to ", most, ", got ", threads));
  }
  request.calibration = {.threads = static_cast<int>(threads),
                         .directory = arguments.Get("directory", ""),
                         .allow_buffered = arguments.Has("allow-buffered")};
  request.isa = arguments.Get("isa", "");
  request.output = arguments.Get("out", "");
  return request;
}

absl::Status ExamineOnThreads(const Arguments& arguments) {
  RETURN_IF_ERROR(CheckThatProcessesMet(1, "measure"));
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.GetInt("ranks", 1));
  constexpr int64_t kRanksMax = 64;
  if (ranks < 1 || ranks > kRanksMax) {
    return absl::InvalidArgumentError(absl::StrCat("--ranks: wanted 1 to ", kRanksMax, ", got ", ranks));
  }
  const int size = static_cast<int>(ranks);
  ASSIGN_OR_RETURN(const DoctorRequest request, RequestFrom(arguments, size, UsableCores()));
  LocalWorld world(size);
  std::vector<absl::Status> results(static_cast<size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        absl::Status& result = results[static_cast<size_t>(rank)];
        result = ExamineMachines(request, *communicator, *communicator, stdout);
        if (!result.ok()) world.Abort(std::string(result.message()));
      });
    }
  }
  return results[0];
}

#ifdef ANGEL_PTM_WITH_MPI
absl::Status ExamineOneRank(MpiWorld& world, const Arguments& arguments) {
  if (arguments.Has("ranks")) {
    return absl::InvalidArgumentError(
        "--ranks: under mpirun the processes are the ranks; leave it out, or start one process alone");
  }
  // Bound ranks have their own cores. If not all ranks can be found, only this rank's cores are known.
  const int cores = std::max(UsableCores(), world.node_size() * CoresOfRank(world.node_size()));
  ASSIGN_OR_RETURN(const DoctorRequest request, RequestFrom(arguments, world.node_size(), cores));
  // Ranks wait while rank 0 of their node measures what only one rank measures.
  constexpr double kAloneSeconds = 120;
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> all,
                   world.Create({.timeout_seconds = kAloneSeconds + request.seconds}, MpiTransport::kAuto));
  if (world.rank() == 0) std::printf("transport: %s\n", world.transport_description().c_str());
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> node, all->Split(world.node_first(), {"ranks of a machine"}));
  // Like a run of these ranks.
  const WorldShape shape(world.size(), world.nodes_are_regular() ? world.node_size() : 0);
  if (!shape.has_nodes()) return ExamineMachines(request, *all, *node, stdout);
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nodes, CreateNodes(*all, shape.ranks_per_node));
  return ExamineMachines(request, *nodes, *node, stdout);
}

// Rank 0 immediately reports an error that all ranks have. A rank that has an error of its own reports it itself,
// before the ranks whose errors only follow from it.
[[noreturn]] void EndExamination(MpiWorld& world, const absl::Status& status) {
  constexpr double kTurnSeconds = 2;
  const int turn = (world.rank() == 0 ? 0 : 1) + (absl::IsUnavailable(status) ? 2 : 0);
  AwaitTheEnd(turn * kTurnSeconds + std::min(world.rank(), 16) * 0.05);
  std::string sentence(status.message());
  if (world.rank() != 0 && !sentence.starts_with("rank "))
    sentence = absl::StrCat("rank ", world.rank(), ": ", sentence);
  SayToUser(sentence);
  world.Abort(1);
}

absl::Status ExamineOnMpi(const Arguments& arguments) {
  InstallStopSignals();
  constexpr double kMeetSeconds = 60;
  ASSIGN_OR_RETURN(const std::unique_ptr<MpiWorld> world, StartMpi(kMeetSeconds, "the doctor's limit"));
  if (const absl::Status met = CheckThatProcessesMet(world->size(), "measure"); !met.ok()) EndUnmet(*world, met);
  if (const absl::Status met = world->FindMachines(); !met.ok()) EndUnmet(*world, met);
  const absl::Status status = ExamineOneRank(*world, arguments);
  if (status.ok()) return world->Meet("the end");
  EndExamination(*world, status);
}
#endif

}  // namespace

absl::Status DoctorCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words, {.flags = {"directory", "isa", "out", "ranks", "seconds", "threads-per-rank"},
                               .switches = {"allow-buffered"}}));
#ifdef ANGEL_PTM_WITH_MPI
  if (StartedByMpirun()) return ExamineOnMpi(arguments);
#endif
  return ExamineOnThreads(arguments);
}

}  // namespace angel_ptm
