// angel-ptm train: starts the ranks (processes of mpirun, or threads) and runs the trainer on each.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/cluster.h"
#include "angel_ptm/memory/cuda_device_api.h"
#include "angel_ptm/train/predict.h"
#include "angel_ptm/train/trainer.h"
#include "comm/local.h"
#include "comm/nccl/nccl_library.h"
#include "comm/nodes.h"
#include "comm/peer_watcher.h"
#include "comm/progress_board.h"
#include "launch/commands.h"
#include "launch/isa_choice.h"
#include "launch/last_word.h"
#include "launch/machine_cores.h"
#include "launch/process.h"
#include "launch/start_mpi.h"
#include "launch/stop_signals.h"
#include "launch/version_info.h"
#ifdef ANGEL_PTM_WITH_CUDA_KERNELS
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/cuda_ordered_sum.h"
#endif
#ifdef ANGEL_PTM_WITH_MPI
#include "comm/mpi_relay.h"
#endif

namespace angel_ptm {
namespace {

std::atomic<bool>& stop_requested = StopRequested();

// What --resume, --resume-or-start, --resume-from, --isa and --cluster ask for.
struct Wishes {
  bool newest = false, start_if_none = false;
  std::optional<int64_t> step;
  std::string isa;
  std::shared_ptr<const Cluster> cluster;  // null: not given
};

absl::StatusOr<Wishes> WishesFrom(const Arguments& arguments) {
  const bool may_start = arguments.Has("resume-or-start");
  Wishes wishes{.newest = arguments.Has("resume") || may_start,
                .start_if_none = may_start,
                .step = {},
                .isa = arguments.Get("isa", "")};
  if (!wishes.isa.empty()) RETURN_IF_ERROR(IsaNamed(wishes.isa, CpuIsas()).status());
  if (arguments.Has("cluster")) {
    ASSIGN_OR_RETURN(Cluster cluster, LoadCluster(arguments.Get("cluster", "")));
    wishes.cluster = std::make_shared<const Cluster>(std::move(cluster));
  }
  if (!arguments.Has("resume-from")) return wishes;
  ASSIGN_OR_RETURN(wishes.step, arguments.GetInt("resume-from", 0));
  return wishes;
}

void PrintIsa(const IsaChoice& choice) {
  std::printf("kernels for: %s (%s)\n", choice.isa->name, choice.reason.c_str());
}

// `ranks`: those of this process. A process that `speaks` warns about idle cores; only one does.
absl::Status CheckStart(const TrainConfig& config, const RunFacts& facts, int ranks, bool speaks) {
  RETURN_IF_ERROR(Validate(config, facts));
  const int threads = Derive(config, facts).threads_per_rank;
  if (speaks && config.numerics().threads_per_rank() == 0) {
    const std::string warning = IdleCoresWarning(facts.local_ranks, threads, facts.kernel_threads_max);
    if (!warning.empty()) std::fprintf(stderr, "angel-ptm: %s\n", warning.c_str());
  }
  const bool lock_free = config.optimizer().update() == OptimizerConfig::LOCK_FREE;
  return CheckThreads(ranks * threads, ranks * (kOtherThreads + (lock_free ? kLockFreeThreads : 0)));
}

// The CUDA backend is not yet proven on a GPU. `wait`: how the rank waits for its peers.
DeviceOffer GpusFor(DeviceApi* api, int local_rank, int local_ranks, const WaitOptions& wait) {
  DeviceOffer offer{.api = api, .local_rank = local_rank, .local_ranks = local_ranks};
  offer.nccl = {.open = &LoadNccl, .wait = wait};
#ifdef ANGEL_PTM_WITH_CUDA_KERNELS
  offer.kernels = &CudaKernels();
  offer.nccl.sum = &LaunchCudaOrderedSum;
#endif
  return offer;
}

TrainerOptions OptionsFor(int rank, int ranks, const Wishes& wishes, const CpuIsa& isa, const DeviceOffer& gpus,
                          std::shared_ptr<ProgressBoard> board) {
  const VersionInfo& version = BuildVersionInfo();
  std::shared_ptr<const CostModel> cost;
  if (wishes.cluster != nullptr) cost = std::make_shared<const CostModel>(CostModelOf(*wishes.cluster, ranks));
  return {.resume = wishes.newest,
          .start_if_none = wishes.start_if_none,
          .resume_from = wishes.step,
          .stop_requested = &stop_requested,
          .out = rank == 0 ? stdout : nullptr,
          .publish = [board = std::move(board), rank](
                         int64_t step, std::string_view activity) { board->Publish(rank, step, activity); },
          .build = {.commit = std::string(version.commit), .processor = isa.name},
          .kernels = &isa.kernels(),
          .gpus = gpus,
          .cost = std::move(cost)};
}

PeerWatcher::Options WatcherOptions(const TrainConfig& config, const LastWord& last_word) {
  return {.limit_seconds = config.communication().timeout_seconds(),
          .on_loss = [&last_word](std::string_view sentence) { last_word.SayLoss(sentence); }};
}

// If the run's ranks form nodes, creates `nodes` on top of the world's communicator and returns it; else the world's.
absl::StatusOr<Communicator*> WithNodes(const WorldShape& shape, Communicator& world,
                                        std::unique_ptr<Communicator>& nodes) {
  if (!shape.has_nodes()) return &world;
  ASSIGN_OR_RETURN(nodes, CreateNodes(world, shape.ranks_per_node));
  if (world.rank() == 0) std::printf("sums: over the %d ranks of a node, then over the nodes\n", shape.ranks_per_node);
  return nodes.get();
}

// Returns the first rank's error that is not kUnavailable, because kUnavailable follows from another rank's failure.
absl::Status TrainOnThreads(const TrainConfig& config, const RunFacts& facts, const Wishes& wishes) {
  ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(wishes.isa, ComputeType(config)));
  PrintIsa(choice);
  const int size = facts.world_size;
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(size);
  const std::unique_ptr<DeviceApi> gpus = MakeCudaDeviceApi();
  LocalWorld world(size);
  std::vector<absl::Status> results(size);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        // A thread that hangs cannot be ended on its own.
        const LastWord last_word(board, rank, [] { std::_Exit(1); });
        board->Publish(rank, -1, "start-up");
        PeerWatcher watcher(board, rank, WatcherOptions(config, last_word));
        WaitOptions wait{.timeout_seconds = WaitOptions::kForever,
                         .poll = [&watcher](double waited_seconds) { return watcher.Poll(waited_seconds); }};
        const std::unique_ptr<Communicator> communicator = world.Create(rank, wait);
        // Communicators know of a rank that failed; whoever waits elsewhere must ask for the status.
        wait.poll = [&watcher, &world](double waited_seconds) {
          RETURN_IF_ERROR(watcher.Poll(waited_seconds));
          return world.status();
        };
        const DeviceOffer offer = GpusFor(gpus.get(), rank, size, wait);
        results[rank] = [&]() -> absl::Status {
          std::unique_ptr<Communicator> nodes;
          ASSIGN_OR_RETURN(Communicator* const ranks,
                           WithNodes(WorldOf(config.communication(), size, size), *communicator, nodes));
          return TrainRank(config, facts, OptionsFor(rank, size, wishes, *choice.isa, offer, board), *ranks);
        }();
        board->Finish(rank);
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

absl::Status CheckThatAllTrainTogether(const TrainConfig& config, int world_size) {
  if (config.communication().transport() == CommunicationConfig::LOCAL) return absl::OkStatus();
  const absl::Status met = CheckThatProcessesMet(world_size, "train");
  if (met.ok()) return met;
  return absl::Status(met.code(), absl::StrCat(std::string(met.message()),
                                               "; or set communication.transport=LOCAL to train without the others"));
}

#ifdef ANGEL_PTM_WITH_MPI
// Trains up to the last barrier. The ranks end together, so that none is waited for in MPI_Finalize.
absl::Status TrainOneRank(MpiWorld& world, const TrainConfig& config, const RunFacts& facts, const Wishes& wishes,
                          const std::shared_ptr<ProgressBoard>& board, const WaitOptions& wait) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator, world.Create(wait, MpiTransport::kAuto));
  const DType compute = ComputeType(config);
  const auto rate = [compute](const CpuIsa& isa) { return MatmulRate(isa, compute); };
  ASSIGN_OR_RETURN(const IsaChoice choice, AgreeOnIsa(wishes.isa, compute, RunnableCpuIsas(), rate, *communicator));
  if (world.rank() == 0) PrintIsa(choice);
  // Messages are slower, so a run on a machine that forbids direct reads should not fall back to them unnoticed.
  if (world.rank() == 0) std::printf("transport: %s\n", world.transport_description().c_str());
  if (world.rank() == 0 && !world.nodes_are_regular() && config.communication().ranks_per_node() == 0) {
    std::printf(
        "note: the machines have different numbers of ranks, or ranks that are not numbered consecutively (mpirun "
        "--map-by slot numbers them consecutively), so each rank's data crosses the network separately\n");
  }
  std::unique_ptr<Communicator> nodes;
  const int of_machine = world.nodes_are_regular() ? world.node_size() : 0;
  ASSIGN_OR_RETURN(Communicator* const ranks,
                   WithNodes(WorldOf(config.communication(), world.size(), of_machine), *communicator, nodes));
  const std::unique_ptr<DeviceApi> api = MakeCudaDeviceApi();
  const DeviceOffer gpus = GpusFor(api.get(), world.node_rank(), world.node_size(), wait);
  RETURN_IF_ERROR(
      TrainRank(config, facts, OptionsFor(world.rank(), world.size(), wishes, *choice.isa, gpus, board), *ranks));
  return communicator->Barrier({"end of the run", -1});
}

// Whether the ranks hear each other's signs of life, across machines by *relay. `memory`: status of the board's memory.
bool HearEachOther(MpiWorld& world, const absl::Status& memory, const std::shared_ptr<ProgressBoard>& board,
                   double limit_seconds, std::unique_ptr<MachineRelay>* relay) {
  absl::Status heard = memory;
  if (memory.ok() && world.node_count() > 1) {
    absl::StatusOr<std::unique_ptr<MachineRelay>> created = CreateMpiRelay(world, board);
    if (absl::IsDeadlineExceeded(created.status())) EndUnmet(world, created.status());
    heard = created.status();
    if (heard.ok()) *relay = *std::move(created);
  }
  if (!heard.ok() && world.rank() == 0) {
    std::fprintf(
        stderr,
        "angel-ptm: the ranks cannot receive each other's signs of life, so a rank that keeps others waiting for "
        "longer than %g s (communication.timeout_seconds) counts as lost: %s\n",
        limit_seconds, std::string(heard.message()).c_str());
  }
  return heard.ok();
}

// After an error, ends all ranks, since MPI would wait for the others.
absl::Status TrainOnMpi(TrainConfig& config, const Wishes& wishes) {
  const double limit = config.communication().timeout_seconds();
  ASSIGN_OR_RETURN(const std::unique_ptr<MpiWorld> world, StartMpi(limit, "communication.timeout_seconds"));
  if (const absl::Status met = CheckThatAllTrainTogether(config, world->size()); !met.ok()) EndUnmet(*world, met);
  if (const absl::Status met = world->FindMachines(); !met.ok()) EndUnmet(*world, met);
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory = world->ShareMemory(ProgressBoard::BytesFor(world->size()));
  if (absl::IsDeadlineExceeded(memory.status())) EndUnmet(*world, memory.status());
  const absl::Status shared = memory.status();
  const std::shared_ptr<ProgressBoard> board =
      memory.ok() ? ProgressBoard::In(*std::move(memory), world->size()) : ProgressBoard::InProcess(world->size());
  board->Publish(world->rank(), -1, "start-up");
  const LastWord last_word(board, world->rank(), [&world] { world->Abort(1); });
  PeerWatcher watcher(board, world->rank(), WatcherOptions(config, last_word));
  std::unique_ptr<MachineRelay> relay;
  const bool heard = HearEachOther(*world, shared, board, limit, &relay);
  // If no watcher hears of a peer, waiting is limited instead.
  const WaitOptions wait{.timeout_seconds = heard ? WaitOptions::kForever : limit,
                         .poll = [&watcher](double waited_seconds) { return watcher.Poll(waited_seconds); }};
  RunFacts facts = MachineFacts();
  facts.world_size = world->size();
  facts.local_ranks = world->node_size();
  facts.started_by_mpirun = true;
  facts.device_is_host_memory = config.device() != TrainConfig::CUDA;
  facts.rank_cores = CoresOfRank(facts.local_ranks);
  AccountForRanks(config, facts.local_ranks, &facts);
  absl::Status status = CheckStart(config, facts, 1, world->rank() == 0);
  if (status.ok()) status = TrainOneRank(*world, config, facts, wishes, board, wait);
  if (!status.ok()) last_word.SayError(status, watcher);
  board->Finish(world->rank());
  return absl::OkStatus();
}
#endif

}  // namespace

absl::Status TrainCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, WithConfig({.flags = {"cluster", "isa", "resume-from"},
                                                       .switches = {"resume", "resume-or-start"}})));
  ASSIGN_OR_RETURN(TrainConfig config, ConfigFrom(arguments));
  ASSIGN_OR_RETURN(const Wishes wishes, WishesFrom(arguments));
  InstallStopSignals();
#ifdef ANGEL_PTM_WITH_MPI
  const bool local = config.communication().transport() == CommunicationConfig::LOCAL;
  if (StartedByMpirun() && !local) return TrainOnMpi(config, wishes);
#endif
  RunFacts facts = MachineFacts();
  facts.started_by_mpirun = StartedByMpirun();
  facts.device_is_host_memory = config.device() != TrainConfig::CUDA;
  RETURN_IF_ERROR(CheckThatAllTrainTogether(config, 1));
  facts.world_size = facts.local_ranks = std::max(1, config.communication().local_ranks());
  AccountForRanks(config, 1, &facts);
  RETURN_IF_ERROR(CheckStart(config, facts, facts.local_ranks, true));
  return TrainOnThreads(config, facts, wishes);
}

}  // namespace angel_ptm
