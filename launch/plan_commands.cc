// angel-ptm plan and inspect: show what a run will need, and what a checkpoint contains.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/cluster.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/exec/staged_collectives.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/plan_json.h"
#include "angel_ptm/train/predict.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/search.h"
#include "launch/commands.h"
#include "launch/isa_choice.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRanksMax = 65536, kThreadsMax = 1024;

// The value of the flag, from 1 to `most`, or `fallback`.
absl::StatusOr<int64_t> InRange(const Arguments& arguments, const std::string& flag, int64_t fallback, int64_t most) {
  if (!arguments.Has(flag)) return fallback;
  ASSIGN_OR_RETURN(const int64_t value, arguments.GetInt(flag, fallback));
  if (value >= 1 && value <= most) return value;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted 1 to ", most, ", got ", value));
}

// The vocabulary size that the model gives. 0: it is that of the prepared data's tokenizer. A model without vocabulary
// has size 1.
int64_t GivenVocabulary(const ModelConfig& model) {
  if (model.has_hunyuan_dit()) return 1;
  if (!model.has_dit()) return model.hunyuan_lm().vocab_size();
  return model.dit().text_length() == 0 ? 1 : model.dit().text_vocab_size();
}

// Fills in what Validate requires but a plan does not need: a plan writes nothing and, if the vocabulary size is given,
// reads nothing.
TrainConfig WithoutFolders(TrainConfig config) {
  if (config.output().directory().empty()) config.mutable_output()->set_directory("unused");
  if (config.data().directory().empty() && GivenVocabulary(config.model()) > 0) {
    config.mutable_data()->set_directory("unused");
  }
  return config;
}

// Different from the process numbers of ranks in a trace.
constexpr int kPredictedProcess = 1'000'000;

absl::StatusOr<std::optional<Cluster>> ClusterFrom(const Arguments& arguments) {
  if (arguments.Has("cluster")) {
    ASSIGN_OR_RETURN(Cluster cluster, LoadCluster(arguments.Get("cluster", "")));
    return std::optional<Cluster>(std::move(cluster));
  }
  for (const char* needs_time : {"trace", "find-largest-model", "find-fastest"}) {
    if (!arguments.Has(needs_time)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", needs_time, ": wanted --cluster with it, for budgets and time"));
  }
  return std::nullopt;
}

std::string Contents(const CheckpointReader& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  int64_t bytes = 0, elements = 0;
  for (const ManifestRankFile& file : manifest.rank_files) bytes += file.bytes;
  for (const ManifestUnit& unit : manifest.units) elements += unit.elements;
  std::string text = absl::StrCat(checkpoint.path(), "\nformat version ", manifest.version, ", step ", manifest.step,
                                  ", written by ", Counted(manifest.world_size, "rank"), ", ", FormatBytes(bytes),
                                  " in ", Counted(static_cast<int64_t>(manifest.rank_files.size()), "file"), "\n");
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

// A checked request of the command line.
struct PlanRequest {
  TrainConfig config;  // with the cluster's budgets
  RunFactsForPlan facts;
  std::optional<Cluster> cluster;
  std::optional<CostModel> cost;  // that of the cluster; `facts` refers to it
};

absl::StatusOr<int64_t> VocabularySize(const TrainConfig& config) {
  if (const int64_t given = GivenVocabulary(config.model()); given != 0) return given;
  ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(config.data().directory(), "tokenizer.json"));
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) {
    return absl::NotFoundError(absl::StrCat(
        path, ", whose size is the model's vocabulary, is missing: prepare the data with angel-ptm prepare, or set ",
        config.model().has_dit() ? "model.dit.text_vocab_size" : "model.hunyuan_lm.vocab_size"));
  }
  ASSIGN_OR_RETURN(const std::string config_path, DatasetFilePath(config.data().directory(), "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  ASSIGN_OR_RETURN(const std::string config_json, ReadFile(config_path));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromJson(json, path, config_json));
  return tokenizer->vocabulary_size();
}

absl::Status FillRequest(const Arguments& arguments, PlanRequest& request) {
  TrainConfig& config = request.config;
  ASSIGN_OR_RETURN(config, ConfigFrom(arguments));
  ASSIGN_OR_RETURN(request.cluster, ClusterFrom(arguments));
  ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(arguments.Get("isa", ""), ComputeType(config)));
  RunFacts facts = MachineFacts();
  const std::optional<Cluster>& cluster = request.cluster;
  const int64_t local_ranks = cluster ? std::min(kRanksMax, cluster->nodes() * cluster->devices_per_node())
                                      : std::max(1, config.communication().local_ranks());
  const int64_t own_threads = cluster ? cluster->device().threads() : config.numerics().threads_per_rank();
  ASSIGN_OR_RETURN(const int64_t ranks, InRange(arguments, "ranks", local_ranks, kRanksMax));
  ASSIGN_OR_RETURN(const int64_t threads_per_rank, InRange(arguments, "threads-per-rank", own_threads, kThreadsMax));
  config.mutable_numerics()->set_threads_per_rank(static_cast<int>(threads_per_rank));
  facts.world_size = facts.local_ranks = static_cast<int>(ranks);  // they share cores as on a single machine
  facts.machine_memory_bytes = 0;                                  // the plan is for another machine
  const TrainConfig checked = WithoutFolders(WithoutMachine(config));
  RETURN_IF_ERROR(Validate(checked, facts));
  ASSIGN_OR_RETURN(const int64_t vocab_size, VocabularySize(config));
  const int threads = Derive(checked, facts).threads_per_rank;
  if (threads_per_rank == 0 && ranks != local_ranks) {
    std::fprintf(
        stderr,
        "angel-ptm: note: planning with %d threads per rank (this machine's %d cores divided among %lld ranks); the "
        "kernels' workspaces grow with the number of threads, so set --threads-per-rank for another machine\n",
        threads, facts.cores, static_cast<long long>(ranks));
  }
  const int of_machine = cluster ? static_cast<int>(cluster->devices_per_node()) : facts.world_size;
  request.facts = {.world_size = facts.world_size,
                   .ranks_per_node = WorldOf(config.communication(), facts.world_size, of_machine).ranks_per_node,
                   .threads = threads,
                   .kernels = &choice.isa->kernels(),
                   .vocab_size = vocab_size};
  if (cluster && config.optimizer().update() == OptimizerConfig::LOCK_FREE) {
    return absl::InvalidArgumentError(
        "plan --cluster: the time of a step with optimizer.update=LOCK_FREE is not predicted, wanted SYNCHRONOUS");
  }
  if (cluster) {
    ASSIGN_OR_RETURN(config, WithBudgetsOf(*cluster, config, &request.facts));
    request.facts.cost = &request.cost.emplace(CostModelOf(*cluster, ranks));
  }
  return absl::OkStatus();
}

// Refuses flags that another flag makes meaningless.
absl::Status CheckTogether(const Arguments& arguments) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> alone = {
      {"find-largest-model", {"find-fastest", "trace", "json", "graph", "listing"}},
      {"find-fastest", {"trace", "json", "graph", "listing"}},
      {"json", {"graph", "listing"}}};
  for (const auto& [flag, others] : alone) {
    for (const std::string& other : others) {
      if (!arguments.Has(flag) || !arguments.Has(other)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("plan: --", flag, " prints something else than --", other, " asks for, wanted one of them"));
    }
  }
  if (!arguments.Has("scale") || arguments.Has("find-largest-model")) return absl::OkStatus();
  return absl::InvalidArgumentError("--scale: wanted --find-largest-model with it, whose models it scales");
}

absl::Status PrintLargest(const Arguments& arguments, const PlanRequest& request) {
  const std::string scale = arguments.Get("scale", "depth");
  if (scale != "depth" && scale != "width") {
    return absl::InvalidArgumentError(absl::StrCat("--scale: wanted depth or width, got ", scale));
  }
  if (scale == "width" && request.config.sharding().expert_degree() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--scale width: experts of every width would not be whole slices, wanted sharding.expert_degree 1, "
        "got ",
        request.config.sharding().expert_degree()));
  }
  ASSIGN_OR_RETURN(const LargestModel largest,
                   FindLargestModel(request.config, *request.cluster, request.facts,
                                    scale == "depth" ? ScaleAxis::kDepth : ScaleAxis::kWidth));
  std::printf("%s", ToText(largest, *request.cluster, request.facts.world_size).c_str());
  return absl::OkStatus();
}

absl::Status PrintFastest(const PlanRequest& request) {
  ASSIGN_OR_RETURN(const FastestRun fastest, FindFastest(request.config, *request.cluster, request.facts));
  ASSIGN_OR_RETURN(const auto run, MakeRunPlan(fastest.best.config, request.facts));
  const StepPrediction prediction = Predict(*run, fastest.best.config, *request.cluster, request.facts.world_size);
  std::printf("%s\n%s", ToText(fastest).c_str(),
              PredictionText(prediction, *request.cluster, request.facts.world_size).c_str());
  if (run->task->loss_depends_on_micro_batch()) {
    std::printf("the micro-batch changes the balance loss, and therefore what the model learns\n");
  }
  return absl::OkStatus();
}

absl::Status PrintPlan(const Arguments& arguments, const PlanRequest& request, const RunPlan& run,
                       const StepPrediction* prediction) {
  const RunFactsForPlan& facts = request.facts;
  const absl::StatusOr<int64_t> least = LeastDeviceBytes(request.config, facts);
  if (arguments.Has("json")) {
    std::printf("%s",
                PlanJson(run, facts.threads, least.ok() ? std::optional(*least) : std::nullopt, prediction).c_str());
    return absl::OkStatus();
  }
  std::printf(
      "model: %s parameters; per micro-step %s model FLOPs; %lld blocks recomputed; %d ranks x %d threads, ZeRO stage "
      "%d\n\n",
      FormatCount(static_cast<double>(run.training.table->ParameterCount())).c_str(),
      FormatCount(ModelFlops(run.training)).c_str(), static_cast<long long>(run.recomputed_blocks), facts.world_size,
      facts.threads, request.config.sharding().zero_stage());
  if (arguments.Has("graph")) std::printf("%s\n", ToText(run.training).c_str());
  std::printf("%s\n%sleast memory.device_bytes that works: %s\n", MemoryTable(run.training_plan).c_str(),
              PlanSummary(run.training, run.training_plan).c_str(),
              least.ok() ? absl::StrCat(FormatBytes(*least), " (", *least, ")").c_str()
                         : std::string(least.status().message()).c_str());
  const auto bytes = [](const Plan& plan, TierKind tier) {
    return FormatBytes(plan.arena_bytes[static_cast<int>(tier)]);
  };
  for (int64_t b = 1; b < run.task->bucket_count(); ++b) {
    const Plan& plan = run.training_plan_of(b);
    std::printf("steps of bucket %s, in the same memory: device tier %s, host tier %s, %s model FLOPs per micro-step\n",
                run.task->BucketName(b).c_str(), bytes(plan, TierKind::kDevice).c_str(),
                bytes(plan, TierKind::kHost).c_str(), FormatCount(ModelFlops(run.training_of(b))).c_str());
  }
  for (const RunPlan::Played& played : run.played()) {
    if (!played.name.starts_with("sampling")) continue;
    std::printf("%s, between steps and in the same memory: device tier %s, host tier %s\n", played.name.c_str(),
                bytes(*played.plan, TierKind::kDevice).c_str(), bytes(*played.plan, TierKind::kHost).c_str());
  }
  if (request.config.device() == TrainConfig::CUDA) {
    std::printf(
        "in addition to the tiers: %s of each GPU (memory.device_reserve_bytes); %s of a rank's host memory, "
        "page-locked, unless NCCL transfers the units' data\n",
        FormatBytes(request.config.memory().device_reserve_bytes()).c_str(),
        FormatBytes(StagingBytes(run.training_plan.layout)).c_str());
  }
  if (prediction != nullptr) {
    std::printf("\n%s", PredictionText(*prediction, *request.cluster, facts.world_size).c_str());
  }
  if (arguments.Has("listing")) std::printf("\n%s", PlanListing(run.training, run.training_plan).c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status PlanCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words,
                       WithConfig({.flags = {"cluster", "isa", "ranks", "scale", "threads-per-rank", "trace"},
                                   .switches = {"find-fastest", "find-largest-model", "graph", "json", "listing"}})));
  RETURN_IF_ERROR(CheckTogether(arguments));
  PlanRequest request;
  RETURN_IF_ERROR(FillRequest(arguments, request));
  if (arguments.Has("find-largest-model")) return PrintLargest(arguments, request);
  if (arguments.Has("find-fastest")) return PrintFastest(request);
  ASSIGN_OR_RETURN(const auto run, MakeRunPlan(request.config, request.facts));
  std::optional<StepPrediction> prediction;
  if (request.cluster) prediction = Predict(*run, request.config, *request.cluster, request.facts.world_size);
  if (arguments.Has("trace")) {
    RETURN_IF_ERROR(WriteFile(arguments.Get("trace", ""), PredictedTrace(*run, prediction->time, kPredictedProcess)));
  }
  return PrintPlan(arguments, request, *run, prediction ? &*prediction : nullptr);
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
