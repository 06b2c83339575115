// angel-ptm plan and inspect: what a run will need, and what a checkpoint holds.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/run_plan.h"
#include "launch/commands.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRanksMax = 65536;

std::string Contents(const CheckpointReader& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  int64_t bytes = 0, elements = 0;
  for (const ManifestRankFile& file : manifest.rank_files) bytes += file.bytes;
  for (const ManifestUnit& unit : manifest.units) elements += unit.elements;
  std::string text =
      absl::StrCat(checkpoint.path(), "\nformat version ", manifest.version, ", step ", manifest.step, ", written by ",
                   manifest.world_size, " ranks, ", FormatBytes(bytes), " in ", manifest.rank_files.size(), " files\n");
  absl::StrAppend(&text, "trainer state: ", manifest.trainer_state, "\n", FormatCount(static_cast<double>(elements)),
                  " elements in ", manifest.units.size(), " units:\n");
  for (const ManifestUnit& unit : manifest.units) {
    absl::StrAppend(&text, "  ", unit.name, ": ", unit.elements, " elements\n");
    for (const ManifestParameter& parameter : unit.parameters) {
      absl::StrAppend(&text, "    ", parameter.name, " ", parameter.shape.ToString(), "\n");
    }
  }
  return text;
}

}  // namespace

absl::Status PlanCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"config", "set", "ranks"}, .switches = {"graph", "listing"}}));
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
    ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(config.data().directory(), "tokenizer.json"));
    ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(path));
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
  ASSIGN_OR_RETURN(const Arguments arguments, Arguments::Parse(words, {.switches = {"verify"}, .positional_max = 1}));
  if (arguments.positional().empty()) return absl::InvalidArgumentError("inspect: which checkpoint?");
  std::string text;
  RETURN_IF_ERROR(ReadResolved(arguments.positional()[0], [&](const std::string& path) -> absl::Status {
    ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(path));
    text = Contents(checkpoint);
    if (!arguments.Has("verify")) return absl::OkStatus();
    text += "every byte matches its checksum\n";
    return checkpoint.Verify();
  }));
  std::printf("%s", text.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
