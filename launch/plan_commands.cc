// angel-ptm plan and inspect: what a run will need, and what a checkpoint holds.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/plan_json.h"
#include "angel_ptm/train/run_plan.h"
#include "launch/commands.h"
#include "launch/isa_choice.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRanksMax = 65536, kThreadsMax = 1024;

// The flag's value, at least 1, or `fallback`.
absl::StatusOr<int64_t> InRange(const Arguments& arguments, const std::string& flag, int64_t fallback, int64_t most) {
  if (!arguments.Has(flag)) return fallback;
  ASSIGN_OR_RETURN(const int64_t value, arguments.GetInt(flag, fallback));
  if (value >= 1 && value <= most) return value;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted 1 to ", most, ", got ", value));
}

// The size of the vocabulary, any if the model has none; 0: that of the prepared data's tokenizer.
int64_t GivenVocabulary(const ModelConfig& model) {
  if (!model.has_dit()) return model.hunyuan_lm().vocab_size();
  return model.dit().text_length() == 0 ? 1 : model.dit().text_vocab_size();
}

// The configuration with what a plan does not need, but Validate asks for, filled in.
TrainConfig WithoutMachine(TrainConfig config) {
  if (config.memory().host_bytes() == 0) config.mutable_memory()->set_host_bytes(int64_t{1} << 50);
  // Any build plans for any way of starting the ranks.
  config.mutable_communication()->set_transport(CommunicationConfig::AUTO);
  // A plan writes nothing and, with the vocabulary given, reads nothing.
  if (config.output().directory().empty()) config.mutable_output()->set_directory("unused");
  if (config.data().directory().empty() && GivenVocabulary(config.model()) > 0) {
    config.mutable_data()->set_directory("unused");
  }
  return config;
}

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
                   Arguments::Parse(words, WithConfig({.flags = {"isa", "ranks", "threads-per-rank"},
                                                       .switches = {"graph", "listing", "json"}})));
  ASSIGN_OR_RETURN(TrainConfig config, ConfigFrom(arguments));
  ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(arguments.Get("isa", ""), ComputeType(config)));
  RunFacts facts = MachineFacts();
  const int64_t local_ranks = std::max(1, config.communication().local_ranks());
  ASSIGN_OR_RETURN(const int64_t ranks, InRange(arguments, "ranks", local_ranks, kRanksMax));
  ASSIGN_OR_RETURN(const int64_t threads_per_rank,
                   InRange(arguments, "threads-per-rank", config.numerics().threads_per_rank(), kThreadsMax));
  config.mutable_numerics()->set_threads_per_rank(static_cast<int>(threads_per_rank));
  facts.world_size = facts.local_ranks = static_cast<int>(ranks);  // their share of the cores is that of one machine
  facts.machine_memory_bytes = 0;                                  // the plan is for another machine
  const TrainConfig checked = WithoutMachine(config);
  RETURN_IF_ERROR(Validate(checked, facts));
  int64_t vocab_size = GivenVocabulary(config.model());
  if (vocab_size == 0) {
    ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(config.data().directory(), "tokenizer.json"));
    ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(path));
    vocab_size = tokenizer->vocabulary_size();
  }
  const int threads = Derive(checked, facts).threads_per_rank;
  if (threads_per_rank == 0 && ranks != local_ranks) {
    std::fprintf(
        stderr,
        "angel-ptm: note: %d threads per rank are this machine's %d cores over %lld ranks; kernels' workspaces "
        "grow with threads, so for another machine say --threads-per-rank\n",
        threads, facts.cores, static_cast<long long>(ranks));
  }
  const RunFactsForPlan plan_facts{
      .world_size = facts.world_size, .threads = threads, .kernels = &choice.isa->kernels(), .vocab_size = vocab_size};
  ASSIGN_OR_RETURN(const auto run, MakeRunPlan(config, plan_facts));
  const absl::StatusOr<int64_t> least = LeastDeviceBytes(config, plan_facts);
  if (arguments.Has("json")) {
    std::printf("%s", PlanJson(*run, threads, least.ok() ? std::optional(*least) : std::nullopt).c_str());
    return absl::OkStatus();
  }
  std::printf(
      "model: %s parameters; per micro-step %s model FLOPs; %lld blocks recomputed; %d ranks x %d threads, ZeRO stage "
      "%d\n\n",
      FormatCount(static_cast<double>(run->training.table->ParameterCount())).c_str(),
      FormatCount(ModelFlops(run->training)).c_str(), static_cast<long long>(run->recomputed_blocks), facts.world_size,
      threads, config.sharding().zero_stage());
  if (arguments.Has("graph")) std::printf("%s\n", ToText(run->training).c_str());
  std::printf("%s\n%sleast memory.device_bytes that works: %s\n", MemoryTable(run->training_plan).c_str(),
              PlanSummary(run->training, run->training_plan).c_str(),
              least.ok() ? absl::StrCat(FormatBytes(*least), " (", *least, ")").c_str()
                         : std::string(least.status().message()).c_str());
  if (arguments.Has("listing")) std::printf("\n%s", PlanListing(run->training, run->training_plan).c_str());
  return absl::OkStatus();
}

absl::Status InspectCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.switches = {"verify"}, .positional_max = 1, .positional = "DIR"}));
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
