#include "tests/laws/tiny_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/exec/device_side.h"
#include "angel_ptm/exec/lock_free_updater.h"
#include "angel_ptm/memory/calls_file.h"
#include "angel_ptm/memory/device.h"
#include "angel_ptm/memory/scratch_file.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/train_state.h"
#include "comm/local.h"
#include "comm/nodes.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "optim/schedule.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/memory_directory.h"
#include "tests/support/throttled_block_file.h"

namespace angel_ptm {
namespace {

// The vectors have equal sizes. Empty ones are handled here, because memcmp must not get their data().
bool EqualBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Sample `index`: random tokens in two documents; every target inside a document counts.
struct Batch {
  std::vector<int32_t> tokens, targets, positions, segment_start;
  float target_count = 0;

  void Fill(const TinyRun& run, int64_t first_sample, bool weighs) {
    const int64_t s = run.batch.sequence;
    tokens.clear(), targets.clear(), positions.clear(), segment_start.clear();
    target_count = 0;
    for (int64_t row = 0; row < run.batch.rows; ++row) {
      const auto sample = static_cast<uint32_t>(first_sample + row);
      const int64_t border = 1 + RandomWords(run.seed, RandomPurpose::kTest, sample, 1u << 20)[0] % (s - 1);
      const auto token = [&](int64_t i) {
        const uint32_t word = RandomWords(run.seed, RandomPurpose::kTest, sample, static_cast<uint64_t>(i))[0];
        return static_cast<int32_t>(word % 7 * (word >> 8) % run.shape.vocab_size);
      };
      for (int64_t i = 0; i < s; ++i) {
        const int64_t start = i < border ? 0 : border;
        const bool counts = weighs && i + 1 != border;
        tokens.push_back(token(i));
        targets.push_back(counts ? token(i + 1) : -1);
        positions.push_back(static_cast<int32_t>(i - start));
        segment_start.push_back(static_cast<int32_t>(start));
        target_count += counts ? 1 : 0;
      }
    }
  }
};

// One rank's run.
class Rank {
 public:
  Rank(const TinyRun& run, Communicator& communicator) : run_(run), communicator_(communicator) {}

  absl::Status Prepare() {
    planned_ = run_.plan;
    if (planned_ == nullptr) {
      ASSIGN_OR_RETURN(planned_, MakeTinyPlan(run_, communicator_.size()));
    }
    if (run_.shape.expert_degree > 1) {
      CheckedCommunicator world(&communicator_, SequenceCheck::kHistory);
      ASSIGN_OR_RETURN(groups_, MakeMeshGroups(world, run_.shape.expert_degree));
    }
    RETURN_IF_ERROR(MakeTiers());
    // The arenas start full of NaN, so a step that reads memory before it is written shows.
    for (Tier* const tier : {device_.get(), host_.get()}) {
      const std::vector<std::byte> nans(static_cast<size_t>(tier->bytes()), std::byte{0xff});
      if (!nans.empty()) RETURN_IF_ERROR(tier->Write(0, nans.data(), tier->bytes()));
    }
    ASSIGN_OR_RETURN(control_, communicator_.Split(0, {"control"}));
    machine_ = {device_.get(), host_.get(), &communicator_, control_.get(), &CpuKernels(), &*lanes_, run_.threads};
    if (side_ != nullptr) {
      machine_.kernels = run_.device_kernels;
      machine_.host_kernels = &CpuKernels();
      machine_.device_side = side_.get();
    }
    RETURN_IF_ERROR(OpenFile());
    machine_.file = file_.get();
    machine_.groups = Groups();
    ASSIGN_OR_RETURN(executor_, Executor::Create(graph(), plan(), machine_, {}));
    RETURN_IF_ERROR(FillState());
    BeginUpdater();
    return absl::OkStatus();
  }

  absl::Status Step(int64_t step, TinyResult& result) {
    const auto decide = [&](const StepExchange& exchange) {
      const double count = exchange.sums.weight, norm = std::sqrt(exchange.sums.squares.ToDouble()) / count;
      result.losses.push_back(exchange.sums.loss / count);
      result.norms.push_back(norm);
      UpdateDecision decision = DecisionAt(static_cast<float>(ClipFactor(norm, 0.5) / count), step + 1);
      decision.apply = std::isfinite(norm) && step != run_.skipped_step;
      return decision;
    };
    const StepHooks hooks{.feed =
                              [&](int64_t of_step, int64_t micro) {
                                if (micro > 0) Tamper(of_step, micro - 1);
                                Feed(of_step, static_cast<int>(micro));
                                return absl::OkStatus();
                              },
                          .vote =
                              [&] {
                                Tamper(step, run_.accumulation - 1);
                                return 0.0;
                              },
                          .decide = decide};
    const bool can_join = plan().FindProgram(/*begun=*/false, /*begins_next=*/true) != nullptr;
    const bool begun = std::exchange(begun_, run_.join && can_join && step + 1 < run_.steps);
    result.joined |= begun_;
    RETURN_IF_ERROR(executor_->Run(*plan().FindProgram(begun, begun_), step, run_.accumulation, hooks));
    if (executor_->updater() != nullptr) result.units_by_lag.push_back(executor_->updater()->units_by_lag());
    return absl::OkStatus();
  }

  absl::Status Close() { return side_ == nullptr ? absl::OkStatus() : side_->Close(); }

  absl::Status Collect(TinyResult& result) {
    RETURN_IF_ERROR(CollectUpdater(result));
    result.parameters.resize(graph().units().size());
    result.moments.resize(graph().units().size());
    result.state_bytes.resize(graph().states().size());
    for (const StateView& view : StateViews(plan().layout, machine_)) {
      const int64_t element = SizeOf(view.dtype);
      std::vector<std::byte> stored(static_cast<size_t>(view.stored_elements * element));
      result.state_bytes[view.state] += static_cast<int64_t>(stored.size());
      if (view.state == kGradientState || graph().states()[view.state].on_host) continue;
      RETURN_IF_ERROR(view.ReadBytes(0, stored));
      const std::span<const std::byte> own =
          std::span(stored).subspan((view.begin - view.stored_begin) * element, view.slice_elements * element);
      std::vector<std::byte> whole(own.size() * communicator_.size());
      RETURN_IF_ERROR(communicator_.AllGather(whole, own, {"collect", run_.steps}));
      if (!std::ranges::equal(std::span(whole).subspan(view.stored_begin * element, stored.size()), stored)) {
        return absl::InternalError(
            absl::StrCat("rank ", communicator_.rank(), "'s copy of the ", graph().states()[view.state].name, " of ",
                         graph().units()[view.unit].name, " differs from what their owners hold"));
      }
      auto& into = view.state == kParameterState ? result.parameters[view.unit] : result.moments[view.unit];
      // Drops the padding, which depends on the world size.
      std::vector<float> values(static_cast<size_t>(graph().units()[view.unit].elements));
      if (view.dtype == DType::kBFloat16) {
        Widen(values, {reinterpret_cast<const BFloat16*>(whole.data()), values.size()});
      } else {
        std::memcpy(values.data(), whole.data(), values.size() * sizeof(float));
      }
      into.insert(into.end(), values.begin(), values.end());
    }
    result.device_arena_bytes = plan().arena_bytes[0];
    result.host_arena_bytes = plan().arena_bytes[1];
    result.file_arena_bytes = plan().arena_bytes[2];
    result.device_peak_by_class = plan().peaks[0].by_class;
    result.moves = plan_testing::MovesOf(plan());
    return Save(result);
  }

 private:
  const Graph& graph() const { return planned_->graph; }
  const Plan& plan() const { return planned_->plan; }

  const MeshGroups* Groups() const { return groups_.places == nullptr ? nullptr : &groups_; }

  absl::Status OpenFile() {
    const std::string directory = testing_support::MemoryDirectory();
    const int64_t bytes = AlignedUp(TierKind::kFile, plan().arena_bytes[2]);
    if ((run_.file_bytes_per_second > 0 || run_.wrap_drive) && bytes > 0) {
      ASSIGN_OR_RETURN(ScratchFile scratch, ScratchFile::Create({directory, "pages", bytes, /*allow_buffered=*/true}));
      const FileStoreOptions options{.directory = directory,
                                     .name = "pages",
                                     .bytes = bytes,
                                     .block_bytes = SpecOf(TierKind::kFile).alignment,
                                     .allow_buffered = true};
      std::unique_ptr<BlockFile> drive = MakeCallsFile(std::move(scratch), options.queue_depth);
      if (const DeviceSpeed speed{.bytes_per_second = run_.file_bytes_per_second}; speed.bytes_per_second > 0) {
        drive = std::make_unique<ThrottledBlockFile>(std::move(drive), speed, speed, options.queue_depth);
      }
      if (run_.wrap_drive) drive = run_.wrap_drive(std::move(drive), communicator_.rank());
      file_ = std::make_unique<FileTier>(FileStore::CreateOn(options, std::move(drive), run_.file_checksum));
      return absl::OkStatus();
    }
    NvmeConfig nvme;
    nvme.set_directory(directory);
    nvme.set_allow_buffered(true);
    std::string notes;
    ASSIGN_OR_RETURN(file_, OpenFileTier(nvme, communicator_.rank(), plan().arena_bytes[2], *host_, &notes));
    return absl::OkStatus();
  }

  absl::Status FillState() {
    if (run_.load_checkpoint.empty()) {
      return InitialiseState(*graph().table, run_.seed, StateViews(plan().layout, machine_));
    }
    ASSIGN_OR_RETURN(CheckpointReader checkpoint, CheckpointReader::Open(run_.load_checkpoint));
    RETURN_IF_ERROR(checkpoint.Fit(*graph().table));
    return LoadState(checkpoint, graph().states(), StateViews(plan().layout, machine_));
  }

  UpdateDecision DecisionAt(float gradient_scale, int64_t update) const {
    const double t = static_cast<double>(update);
    return {.scalars = {.learning_rate = 1e-2f,
                        .gradient_scale = gradient_scale,
                        .bias_correction1 = static_cast<float>(1 - std::pow(0.9, t)),
                        .bias_correction2 = static_cast<float>(1 - std::pow(0.95, t))},
            .ema = {static_cast<float>(EmaRate(run_.ema_decay, update))}};
  }

  void BeginUpdater() {
    if (executor_->updater() == nullptr) return;
    executor_->updater()->Begin({.max_staleness = run_.max_staleness,
                                 .next_step = run_.first_step,
                                 .updates = std::vector<int64_t>(graph().units().size(), run_.first_step),
                                 .scalars_at = [this](const UpdateDecision& of_step, int64_t update) {
                                   return DecisionAt(of_step.scalars.gradient_scale, update);
                                 }});
  }

  // Checks that all ranks published the same units at the same steps.
  absl::Status CollectUpdater(TinyResult& result) {
    LockFreeUpdater* const updater = executor_->updater();
    if (updater == nullptr) return absl::OkStatus();
    RETURN_IF_ERROR(updater->Drain());
    result.unit_updates = updater->updates();
    result.wait_seconds = updater->TakeWaitSeconds();
    std::vector<int64_t> mine = result.unit_updates;
    for (const auto& lags : result.units_by_lag) mine.insert(mine.end(), lags.begin(), lags.end());
    std::vector<int64_t> all(mine.size() * communicator_.size());
    RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(mine)),
                                            {"lags", run_.steps}));
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] != mine[i % mine.size()]) return absl::InternalError("ranks have published at different steps");
    }
    return absl::OkStatus();
  }

  absl::Status MakeTiers() {
    ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, plan().arena_bytes[1]));
    if (!run_.device) {
      ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, plan().arena_bytes[0], 1, [&](int64_t n, int threads) {
                         return communicator_.MakeArena(n, threads, {"device tier"});
                       }));
      lanes_.emplace();
      return absl::OkStatus();
    }
    api_ = run_.device(communicator_.rank());
    ASSIGN_OR_RETURN(gpu_, Device::Open(*api_, 0, 1));
    ASSIGN_OR_RETURN(device_, MakeDeviceArena(*gpu_, plan().arena_bytes[0]));
    ASSIGN_OR_RETURN(host_lock_, gpu_->PageLock(host_->data(), host_->bytes(), "the host tier"));
    ASSIGN_OR_RETURN(
        side_, DeviceSide::Create(*gpu_, plan().layout, communicator_, /*threads=*/1, run_.collectives, Groups()));
    ASSIGN_OR_RETURN(Lanes::Queues queues, side_->MakeQueues());
    lanes_.emplace(std::move(queues));
    return absl::OkStatus();
  }

  void Feed(int64_t step, int micro) {
    const int world = communicator_.size();
    const int total = run_.global_micro_batches > 0 ? run_.global_micro_batches : run_.accumulation * world;
    int number = micro * world + communicator_.rank();
    if (run_.feed) number = run_.feed(step, number);
    Batch batch;
    batch.Fill(run_, (step * total + number) * run_.batch.rows, number < total);
    Write("tokens", batch.tokens.data());
    Write("targets", batch.targets.data());
    Write("positions", batch.positions.data());
    Write("segment_start", batch.segment_start.data());
    Write("target_count", &batch.target_count);
  }

  // Called after micro-batch `micro` of `step`.
  void Tamper(int64_t step, int64_t micro) {
    if (run_.tamper) run_.tamper(graph(), plan().layout, machine_, step, static_cast<int>(micro));
  }

  absl::Status Save(TinyResult& result) {
    if (run_.save_directory.empty()) return absl::OkStatus();
    const std::vector<StateSlice> slices = SlicesToSave(*graph().table, StateViews(plan().layout, machine_));
    ASSIGN_OR_RETURN(const SavedCheckpoint saved, WriteCheckpoint({.directory = run_.save_directory}, graph(), slices,
                                                                  {.step = run_.steps}, communicator_));
    result.checkpoint = saved.path;
    return absl::OkStatus();
  }

  void Write(std::string_view name, const void* data) { executor_->WriteInput(graph().FindTensor(name), data); }

  const TinyRun& run_;
  Communicator& communicator_;
  std::unique_ptr<Communicator> control_;
  MeshGroups groups_;
  std::shared_ptr<const TinyPlan> planned_;
  std::unique_ptr<DeviceApi> api_;  // null, as the three below: no GPU
  std::unique_ptr<Device> gpu_;
  std::unique_ptr<Tier> device_, host_;
  std::shared_ptr<void> host_lock_;
  std::unique_ptr<DeviceSide> side_;
  std::unique_ptr<FileTier> file_;
  std::optional<Lanes> lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_;
  bool begun_ = false;  // the next step's first micro-batch was played beside the last update
};

}  // namespace

bool TinyResult::SameBits(const TinyResult& other) const { return Difference(other).empty(); }

std::string TinyResult::Difference(const TinyResult& other) const {
  if (losses.size() != other.losses.size() || parameters.size() != other.parameters.size()) {
    return absl::StrCat(losses.size(), " steps of ", parameters.size(), " units and ", other.losses.size(), " of ",
                        other.parameters.size());
  }
  for (size_t i = 0; i < losses.size(); ++i) {
    if (losses[i] != other.losses[i])
      return absl::StrCat("loss of step ", i, ": ", FormatExact(losses[i]), " and ", FormatExact(other.losses[i]));
    if (norms[i] != other.norms[i]) {
      return absl::StrCat("norm of step ", i, ": ", FormatExact(norms[i]), " and ", FormatExact(other.norms[i]));
    }
  }
  for (size_t u = 0; u < parameters.size(); ++u) {
    APTM_CHECK(parameters[u].size() == other.parameters[u].size() && moments[u].size() == other.moments[u].size());
    if (!EqualBits(parameters[u], other.parameters[u])) {
      return absl::StrCat("parameters of unit ", u);
    }
    if (!EqualBits(moments[u], other.moments[u])) {
      return absl::StrCat("moments of unit ", u);
    }
  }
  return "";
}

absl::StatusOr<TinyResult> Train(const TinyRun& run, Communicator& communicator) {
  const std::unique_ptr<Communicator> wrapper = run.wrap ? run.wrap(communicator) : nullptr;
  Communicator* ranks = wrapper != nullptr ? wrapper.get() : &communicator;
  std::unique_ptr<Communicator> nodes;
  if (const WorldShape world(ranks->size(), run.ranks_per_node); world.has_nodes()) {
    ASSIGN_OR_RETURN(nodes, CreateNodes(*ranks, world.ranks_per_node));
    ranks = nodes.get();
  }
  Rank rank(run, *ranks);
  TinyResult result;
  RETURN_IF_ERROR(rank.Prepare());
  for (int64_t step = run.first_step; step < run.steps; ++step) RETURN_IF_ERROR(rank.Step(step, result));
  RETURN_IF_ERROR(rank.Collect(result));
  RETURN_IF_ERROR(rank.Close());
  return result;
}

absl::StatusOr<TinyResult> TrainLocally(const TinyRun& run, int world_size) {
  std::shared_ptr<const TinyPlan> plan = run.plan;
  if (plan == nullptr) {
    ASSIGN_OR_RETURN(plan, MakeTinyPlan(run, world_size));
  }
  LocalWorld world(world_size);
  std::vector<absl::StatusOr<TinyResult>> results(world_size, absl::UnknownError("did not run"));
  {
    std::vector<std::jthread> threads;
    for (int r = 0; r < world_size; ++r) {
      threads.emplace_back([&, r] {
        const std::unique_ptr<Communicator> communicator = world.Create(r);
        TinyRun mine = run;
        mine.plan = plan;
        // Waits outside of communicators also learn of a rank that failed.
        if (!mine.collectives.nccl.wait.poll) {
          mine.collectives.nccl.wait.poll = [&world](double) { return world.status(); };
        }
        results[r] = Train(mine, *communicator);
        if (!results[r].ok()) world.Abort(std::string(results[r].status().message()));
      });
    }
  }
  // A rank that fails ends its peers' calls, so their errors only follow from its own.
  for (const auto& result : results) {
    if (!result.ok() && !absl::IsUnavailable(result.status())) return result.status();
  }
  for (const auto& result : results) RETURN_IF_ERROR(result.status());
  return std::move(results[0]);
}

}  // namespace angel_ptm
