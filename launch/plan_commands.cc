// angel-ptm plan and inspect: what a run will need, and what a checkpoint holds.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/run_plan.h"
#include "launch/commands.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRanksMax = 65536;

}  // namespace

absl::Status PlanCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, WithConfig({.flags = {"ranks"}, .switches = {"graph", "listing"}})));
  ASSIGN_OR_RETURN(const TrainConfig config, ConfigFrom(arguments));
  RunFacts facts = MachineFacts();
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.GetInt("ranks", std::max(1, config.communication().local_ranks())));
  if (ranks < 1 || ranks > kRanksMax) {
    return absl::InvalidArgumentError(absl::StrCat("--ranks: wanted 1 to ", kRanksMax, ", got ", ranks));
  }
  facts.world_size = facts.local_ranks = static_cast<int>(ranks);  // their share of the cores is that of one machine
  facts.machine_memory_bytes = 0;                                  // the plan is for another machine
  TrainConfig checked = config;
  if (checked.memory().host_bytes() == 0) checked.mutable_memory()->set_host_bytes(int64_t{1} << 50);
  // Any build plans for any way of starting the ranks.
  checked.mutable_communication()->set_transport(CommunicationConfig::AUTO);
  // A plan writes nothing and, with the vocabulary given, reads nothing.
  if (checked.output().directory().empty()) checked.mutable_output()->set_directory("unused");
  if (checked.data().directory().empty() && checked.model().hunyuan_lm().vocab_size() > 0) {
    checked.mutable_data()->set_directory("unused");
  }
  RETURN_IF_ERROR(Validate(checked, facts));
  int64_t vocab_size = config.model().hunyuan_lm().vocab_size();
  if (vocab_size == 0) {
    ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(config.data().directory() + "/tokenizer.json"));
    vocab_size = tokenizer->vocabulary_size();
  }
  const int threads = Derive(checked, facts).threads_per_rank;
  ASSIGN_OR_RETURN(const auto run,
                   MakeRunPlan(config, {.world_size = facts.world_size, .threads = threads, .vocab_size = vocab_size}));
  std::printf(
      "model: %s parameters; per micro-step %s model FLOPs; %lld blocks recomputed; %d ranks x %d threads, ZeRO stage "
      "%d\n\n",
      FormatCount(static_cast<double>(run->training.ParameterCount())).c_str(),
      FormatCount(ModelFlops(run->training)).c_str(), static_cast<long long>(run->recomputed_blocks), facts.world_size,
      threads, config.sharding().zero_stage());
  if (arguments.Has("graph")) std::printf("%s\n", ToText(run->training).c_str());
  std::printf("%s\n%s", MemoryTable(run->training_plan).c_str(),
              PlanSummary(run->training, run->training_plan).c_str());
  if (arguments.Has("listing")) std::printf("\n%s", PlanListing(run->training, run->training_plan).c_str());
  return absl::OkStatus();
}

absl::Status InspectCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.switches = {"verify"}, .positional_max = 1, .positional = "DIR"}));
  if (arguments.positional().empty()) return absl::InvalidArgumentError("inspect: which checkpoint?");
  ASSIGN_OR_RETURN(const std::string path, ResolveCheckpoint(arguments.positional()[0]));
  ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(path));
  const CheckpointManifest& manifest = checkpoint.manifest();
  int64_t bytes = 0, elements = 0;
  for (const ManifestRankFile& file : manifest.rank_files) bytes += file.bytes;
  for (const ManifestUnit& unit : manifest.units) elements += unit.elements;
  std::printf("%s\nformat version %d, step %lld, written by %d ranks, %s in %zu files\n", path.c_str(),
              manifest.version, static_cast<long long>(manifest.step), manifest.world_size, FormatBytes(bytes).c_str(),
              manifest.rank_files.size());
  std::printf("trainer state: %s\n%s elements in %zu units:\n", manifest.trainer_state.c_str(),
              FormatCount(static_cast<double>(elements)).c_str(), manifest.units.size());
  for (const ManifestUnit& unit : manifest.units) {
    std::printf("  %s: %lld elements\n", unit.name.c_str(), static_cast<long long>(unit.elements));
    for (const ManifestParameter& parameter : unit.parameters) {
      std::printf("    %s %s\n", parameter.name.c_str(), parameter.shape.ToString().c_str());
    }
  }
  if (arguments.Has("verify")) {
    RETURN_IF_ERROR(checkpoint.Verify());
    std::printf("every byte matches its checksum\n");
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
