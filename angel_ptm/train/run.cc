#include "angel_ptm/train/run.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
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
    if (!registered.ok()) absl::StrAppend(notes, "\nnote: slower transfers with files: ", registered.message());
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
  ASSIGN_OR_RETURN(task, OpenTask(config));
  files = task->checkpoint_files();
  ASSIGN_OR_RETURN(plan, MakeRunPlan(config, {.world_size = communicator.size(),
                                              .threads = derived.threads_per_rank,
                                              .kernels = options.kernels,
                                              .vocab_size = task->vocab_size(),
                                              .host_bytes_max = derived.host_bytes,
                                              .tiers_bytes_max = derived.tiers_bytes,
                                              .cost = options.cost.get()}));
  const auto bytes = [&](TierKind tier) {
    const int t = static_cast<int>(tier);
    return std::max(plan->training_plan.arena_bytes[t], plan->evaluation_plan.arena_bytes[t]);
  };
  // What units' collectives read and write is on the device tier: peers may read that in place.
  const ArenaSource shared = [this](int64_t n, int threads) {
    return communicator.MakeArena(n, threads, {"device tier"});
  };
  ASSIGN_OR_RETURN(device,
                   MakeHostArena(TierKind::kDevice, bytes(TierKind::kDevice), derived.threads_per_rank, shared));
  ASSIGN_OR_RETURN(host, MakeHostArena(TierKind::kHost, bytes(TierKind::kHost), derived.threads_per_rank));
  communicator.KeepAlive(device);
  communicator.KeepAlive(host);
  std::string notes;
  ASSIGN_OR_RETURN(file, OpenFileTier(config.memory().nvme(), rank(), bytes(TierKind::kFile), *host, &notes));
  Print(notes);
  machine = {
      device.get(),   host.get(), &communicator, control.get(), options.kernels, &lanes, derived.threads_per_rank,
      options.publish};
  machine.file = file.get();
  if (const OutputConfig& output = config.output(); output.trace_steps() > 0) {
    trace.emplace(plan->training_plan, derived.accumulation_steps, output.trace_first_step(), output.trace_steps());
  }
  const AdamwConfig& adamw = config.optimizer().adamw();
  const AdamWConstants constants{static_cast<float>(adamw.beta1()), static_cast<float>(adamw.beta2()),
                                 static_cast<float>(adamw.epsilon()), static_cast<float>(adamw.weight_decay())};
  Machine traced = machine;
  traced.trace = trace ? &*trace : nullptr;
  ASSIGN_OR_RETURN(executor, Executor::Create(plan->training, plan->training_plan, traced, constants));
  feeder = task->MakeFeeder(plan->training, *executor, *task->training_samples());
  if (task->validation_samples() != nullptr) {
    ASSIGN_OR_RETURN(validation_executor,
                     Executor::Create(plan->evaluation, plan->evaluation_plan, machine, constants));
    validation_feeder = task->MakeFeeder(plan->evaluation, *validation_executor, *task->validation_samples());
    evaluator.emplace(plan->evaluation_plan, *validation_executor, *validation_feeder, *control);
  }
  views = StateViews(plan->training_plan.layout, machine);
  return absl::OkStatus();
}

}  // namespace angel_ptm
