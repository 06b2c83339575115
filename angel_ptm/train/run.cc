#include "angel_ptm/train/run.h"

#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/train/device_choice.h"
#include "comm/group.h"

namespace angel_ptm {
namespace {

CollectivesWish::Way WayOf(DeviceTransport::Way way) {
  switch (way) {
    case DeviceTransport::AUTO:
      return CollectivesWish::Way::kAuto;
    case DeviceTransport::NCCL:
      return CollectivesWish::Way::kNccl;
    case DeviceTransport::STAGED:
      return CollectivesWish::Way::kStaged;
  }
  APTM_CHECK(false);
}

// Returns freed memory to the system. If another allocator precedes glibc's (a sanitizer's, jemalloc), the first call
// initialises glibc's. Two ranks in one process must not do that concurrently, so a static makes the first call.
void ReturnFreedMemory() {
#ifdef __GLIBC__
  [[maybe_unused]] static const int first = malloc_trim(0);
  malloc_trim(0);
#endif
}

// Needed before ranks form groups by the degree. Any other difference is found when everything is set up.
absl::Status AgreeOnExpertDegree(Communicator& control, int degree) {
  ASSIGN_OR_RETURN(const std::vector<int> all, GatherWords(control, degree, {"expert degree"}));
  const auto other = std::ranges::find_if(all, [&](int of_rank) { return of_rank != all[0]; });
  if (other == all.end()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("sharding.expert_degree is ", all[0], " on rank 0 and ", *other,
                                                    " on rank ", other - all.begin(),
                                                    ", wanted the same configuration on all ranks"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileTier>> OpenFileTier(const NvmeConfig& nvme, int rank, int64_t bytes, Tier& host,
                                                       std::string* notes) {
  notes->clear();
  if (bytes == 0) return nullptr;
  ASSIGN_OR_RETURN(std::unique_ptr<FileStore> store,
                   FileStore::Create({.directory = nvme.directory(),
                                      .name = absl::StrCat("pages of rank ", rank),
                                      .bytes = AlignedUp(TierKind::kFile, bytes),
                                      .block_bytes = SpecOf(TierKind::kFile).alignment,
                                      .allow_buffered = nvme.allow_buffered()}));
  *notes = absl::StrCat("file tier: ", FormatBytes(bytes), " a rank in ", nvme.directory(), ", ", store->description());
  if (host.bytes() > 0) {
    const absl::Status registered = store->RegisterBuffer(host.data(), host.bytes());
    if (!registered.ok()) absl::StrAppend(notes, "\nnote: file transfers are slower: ", registered.message());
  }
  return std::make_unique<FileTier>(std::move(store));
}

void Run::Print(const std::string& text) const {
  if (!prints() || text.empty()) return;
  std::fprintf(options.out, "%s\n", text.c_str());
  std::fflush(options.out);
}

absl::Status Run::SetUp() {
  ASSIGN_OR_RETURN(control, communicator.SplitChecked(/*color=*/0, {"control communicator"}));
  RETURN_IF_ERROR(AgreeOnExpertDegree(*control, config.sharding().expert_degree()));
  if (config.sharding().expert_degree() > 1) {
    ASSIGN_OR_RETURN(groups.emplace(), MakeMeshGroups(communicator, config.sharding().expert_degree()));
  }
  ASSIGN_OR_RETURN(task, OpenTask(config));
  files = task->checkpoint_files();
  RETURN_IF_ERROR(MakeThePlan());
  RETURN_IF_ERROR(MakeTiers());
  return BindExecutors();
}

absl::Status Run::MakeThePlan() {
  ASSIGN_OR_RETURN(DeviceChoice choice, ChooseDevice(config, task->vocab_size(), options.gpus));
  Print(absl::StrCat("device: ", choice.text));
  gpu = std::move(choice.device);
  ASSIGN_OR_RETURN(const Means means, LeastMeans());
  ASSIGN_OR_RETURN(plan, MakeRunPlan(config, {.world_size = communicator.size(),
                                              .ranks_per_node = WorldOf(communicator).ranks_per_node,
                                              .threads = derived.threads_per_rank,
                                              .kernels = &kernels(),
                                              .vocab_size = task->vocab_size(),
                                              .host_bytes_max = means.host_bytes,
                                              .device_bytes_max = means.device_bytes,
                                              .tiers_bytes_max = means.tiers_bytes,
                                              .cost = options.cost.get()}));
  ReturnFreedMemory();  // of rejected candidates and of proofs, in no plan's budget: megabytes with many pages
  return absl::OkStatus();
}

// All ranks share one plan, but their machines differ, and so does what is left of one machine, since processes differ
// in size.
absl::StatusOr<Run::Means> Run::LeastMeans() const {
  Means mine{.host_bytes = derived.host_bytes};
  if (gpu == nullptr) {
    mine.tiers_bytes = derived.tiers_bytes;
  } else {
    mine.has_gpu = 1;
    ASSIGN_OR_RETURN(const int64_t free_bytes, gpu->FreeBytes());
    mine.device_bytes = std::max<int64_t>(free_bytes - config.memory().device_reserve_bytes(), 1);
  }
  ASSIGN_OR_RETURN(const std::vector<Means> all, GatherWords(*control, mine, {"what the ranks have"}));
  const auto least = [&](int64_t Means::*bytes) {
    int64_t known = 0;
    for (const Means& means : all) {
      if (means.*bytes > 0 && (known == 0 || means.*bytes < known)) known = means.*bytes;
    }
    return known;
  };
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank].has_gpu == all[0].has_gpu) continue;
    const auto name = [&](size_t r) {
      return absl::StrCat("rank ", r, all[r].has_gpu != 0 ? " takes a GPU" : " takes the CPU");
    };
    return absl::FailedPreconditionError(absl::StrCat("device: ", name(0), ", ", name(rank),
                                                      ": wanted the same for all; device=CUDA says why a rank has no "
                                                      "GPU, device=CPU leaves all GPUs out"));
  }
  return Means{.has_gpu = mine.has_gpu,
               .device_bytes = least(&Means::device_bytes),
               .host_bytes = least(&Means::host_bytes),
               .tiers_bytes = least(&Means::tiers_bytes)};
}

absl::Status Run::MakeTiers() {
  const int threads = derived.threads_per_rank;
  if (gpu == nullptr) {
    // Collectives of units read and write the device tier; peers may read it in place.
    const ArenaSource shared = [this](int64_t n, int with_threads) {
      return communicator.MakeArena(n, with_threads, {"device tier"});
    };
    ASSIGN_OR_RETURN(device, MakeHostArena(TierKind::kDevice, plan->ArenaBytes(TierKind::kDevice), threads, shared));
    communicator.KeepAlive(device);
    lanes.emplace();
  } else {
    const bool nccl_sums = config.numerics().sums() == NumericsConfig::NCCL_SUMS;
    const CollectivesWish wish{.way = WayOf(config.communication().device_transport()),
                               .nccl = options.gpus.nccl,
                               .sums = nccl_sums ? SumsBy::kNccl : SumsBy::kRankOrder};
    ASSIGN_OR_RETURN(device_side, DeviceSide::Create(*gpu, plan->training_plan.layout, communicator, threads, wish,
                                                     groups ? &*groups : nullptr));
    ASSIGN_OR_RETURN(device, MakeDeviceArena(*gpu, plan->ArenaBytes(TierKind::kDevice)));
    ASSIGN_OR_RETURN(Lanes::Queues queues, device_side->MakeQueues());
    lanes.emplace(std::move(queues));
    Print(device_side->collectives_text());
  }
  ASSIGN_OR_RETURN(host, MakeHostArena(TierKind::kHost, plan->ArenaBytes(TierKind::kHost), threads));
  communicator.KeepAlive(host);
  std::string notes;
  ASSIGN_OR_RETURN(file,
                   OpenFileTier(config.memory().nvme(), rank(), plan->ArenaBytes(TierKind::kFile), *host, &notes));
  Print(notes);
  machine = {device.get(), host.get(), &communicator, control.get(), &kernels(), &*lanes, threads, options.publish};
  machine.file = file.get();
  machine.groups = groups ? &*groups : nullptr;
  if (gpu == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(host_lock, gpu->PageLock(host->data(), host->bytes(), "the host tier"));
  machine.host_kernels = options.kernels;
  machine.device_side = device_side.get();
  return absl::OkStatus();
}

absl::Status Run::Close() { return device_side == nullptr ? absl::OkStatus() : device_side->Close(); }

absl::Status Run::BindExecutors() {
  if (const OutputConfig& output = config.output(); output.trace_steps() > 0) {
    trace.emplace(plan->training_plan, derived.accumulation_steps, output.trace_first_step(), output.trace_steps());
    if (gpu != nullptr) Print("note: the trace shows when steps were enqueued on the GPU's streams, not when they ran");
  }
  const AdamwConfig& adamw = config.optimizer().adamw();
  const AdamWConstants constants{static_cast<float>(adamw.beta1()), static_cast<float>(adamw.beta2()),
                                 static_cast<float>(adamw.epsilon()), static_cast<float>(adamw.weight_decay())};
  Machine traced = machine;
  traced.trace = trace ? &*trace : nullptr;
  for (int64_t b = 0; b < task->bucket_count(); ++b) {
    const Graph& graph = plan->training_of(b);
    Stepper& stepper = steppers.emplace_back();
    ASSIGN_OR_RETURN(stepper.executor, Executor::Create(graph, plan->training_plan_of(b), traced, constants));
    stepper.feeder = task->MakeFeeder(graph, *stepper.executor, *task->bucket_samples(b));
  }
  RETURN_IF_ERROR(BindBetweenSteps(constants));
  views = StateViews(plan->training_plan.layout, machine);
  return absl::OkStatus();
}

absl::Status Run::BindBetweenSteps(const AdamWConstants& constants) {
  std::vector<Sampler*> samplers;
  for (int64_t b = 0; b < task->bucket_count(); ++b) {
    if (const SampleSource* samples = task->bucket_validation_samples(b); samples != nullptr) {
      const Graph& graph = plan->evaluation_of(b);
      Evaluated& bucket = evaluated.emplace_back();
      ASSIGN_OR_RETURN(bucket.executor, Executor::Create(graph, plan->evaluation_plan_of(b), machine, constants));
      bucket.feeder = task->MakeFeeder(graph, *bucket.executor, *samples);
      bucket.evaluator =
          std::make_unique<Evaluator>(plan->evaluation_plan_of(b), *bucket.executor, *bucket.feeder, *control);
    }
    if (const RunPlan::Sampling* sampling = plan->sampling[b].get(); sampling != nullptr) {
      Sampled& bucket = sampled.emplace_back();
      ASSIGN_OR_RETURN(bucket.executor, Executor::Create(sampling->graph, sampling->plan, machine, constants));
      bucket.sampler = task->MakeSampler(b, sampling->graph, *bucket.executor);
      samplers.push_back(bucket.sampler.get());
    }
  }
  if (!samplers.empty()) sample_maker.emplace(std::move(samplers), *control, config.output().directory());
  return absl::OkStatus();
}

}  // namespace angel_ptm
