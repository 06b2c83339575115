#include "angel_ptm/train/run_plan.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/plan/simulate.h"
#include "angel_ptm/plan/verify.h"
#include "optim/adamw.h"
#include "optim/ema.h"

namespace angel_ptm {
namespace {

// The states of the run's table.
std::vector<StateSpec> StatesOf(const TrainConfig& config) {
  std::vector<StateSpec> states = AdamWStates(ComputeType(config), GradientType(config));
  if (config.optimizer().ema_decay() > 0) states.push_back(EmaState());
  if (config.optimizer().update() == OptimizerConfig::LOCK_FREE) {
    for (StateSpec& state : LockFreeStates(ComputeType(config))) states.push_back(std::move(state));
  }
  return states;
}

WorldShape ShapeOf(const TrainConfig& config, const RunFactsForPlan& facts) {
  return {facts.world_size, facts.ranks_per_node, config.sharding().expert_degree()};
}

PlanOptions OptionsFromConfig(const TrainConfig& config, const RunFactsForPlan& facts) {
  const MemoryConfig& memory = config.memory();
  return {.world_size = facts.world_size,
          .zero_stage = static_cast<int>(config.sharding().zero_stage()),
          .ranks_per_node = facts.ranks_per_node,
          .expert_degree = config.sharding().expert_degree(),
          .page_bytes = memory.page_bytes(),
          .device_bytes = memory.device_bytes() > 0 ? memory.device_bytes() : facts.device_bytes_max,
          .host_bytes = memory.host_bytes() > 0 ? memory.host_bytes() : facts.host_bytes_max,
          .file_bytes = FileBudget(memory.nvme()),
          .prefetch_steps = static_cast<int>(memory.prefetch_steps()),
          .sweep_rounds = static_cast<int>(std::max<int64_t>(1, config.optimizer().lock_free().max_staleness() / 2))};
}

// Both tiers are the machine's memory, and the plan itself takes some. So a plan that respects both budgets may still
// need more than the machine has.
absl::Status CheckTiersTogether(const Graph& graph, const Plan& plan, int64_t bytes_max) {
  const int64_t device = plan.arena_bytes[static_cast<int>(TierKind::kDevice)];
  const int64_t host = plan.arena_bytes[static_cast<int>(TierKind::kHost)];
  const int64_t of_file = HostBytesOfFile(plan), total = device + host + of_file + PlanBytes(plan);
  if (bytes_max == 0 || total <= bytes_max) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "graph ", graph.name, " does not fit: the device tier needs ", FormatBytes(device),
      host > 0 ? absl::StrCat(", the host tier ", FormatBytes(host)) : "",
      of_file > 0 ? absl::StrCat(", the file's checksums and buffer ", FormatBytes(of_file)) : "",
      " and the plan itself ", FormatBytes(PlanBytes(plan)), " of this machine's memory, a rank's share of it is ",
      FormatBytes(bytes_max), " (", bytes_max, "): ", FormatBytes(total - bytes_max), " more"));
}

void AppendUpdates(Graph& training, const TrainConfig& config) {
  AppendAdamW(training);
  if (config.optimizer().ema_decay() > 0) AppendEma(training);
}

// Marks the first `blocks` blocks.
std::vector<bool> Recompute(const Task& task, int64_t blocks) {
  std::vector<bool> recompute(static_cast<size_t>(task.recomputable_blocks()), false);
  std::fill_n(recompute.begin(), blocks, true);
  return recompute;
}

// Makes a training plan with `recomputed_blocks`. Sets *least_device_bytes if the device budget is too small.
absl::Status PlanWith(const TrainConfig& config, const RunFactsForPlan& facts, int64_t recomputed_blocks, RunPlan& run,
                      int64_t* least_device_bytes = nullptr) {
  run.recomputed_blocks = recomputed_blocks;
  run.training = run.task->BuildTraining(Recompute(*run.task, recomputed_blocks));
  AppendUpdates(run.training, config);
  ASSIGN_OR_RETURN(const BackendFacts backend,
                   FactsOf(run.training, *facts.kernels, {.threads = facts.threads}, ShapeOf(config, facts)));
  ASSIGN_OR_RETURN(run.training_plan, MakePlan(run.training, backend, OptionsFromConfig(config, facts),
                                               /*layout=*/nullptr, least_device_bytes));
  return CheckTiersTogether(run.training, run.training_plan, facts.tiers_bytes_max);
}

// Recomputes as few blocks as the budgets allow. Trying none and all decides whether anything fits, and gives the least
// budget that a refusal names, because any number in between has blocks of both kinds.
absl::Status PlanWithFewestBlocks(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan& run) {
  const int64_t layers = run.task->recomputable_blocks();
  int64_t least_with_none = 0, least_with_all = 0;
  const absl::Status none = PlanWith(config, facts, 0, run, &least_with_none);
  if (none.ok() || !absl::IsResourceExhausted(none)) return none;
  const absl::Status all = PlanWith(config, facts, layers, run, &least_with_all);
  if (!all.ok()) return least_with_none > 0 && least_with_none < least_with_all ? none : all;
  int64_t too_few = 0, enough = layers;
  // A block that is kept needs about the same memory in any combination, so often even one is too many.
  for (int64_t middle = layers - 1; enough - too_few > 1; middle = (too_few + enough) / 2) {
    (PlanWith(config, facts, middle, run).ok() ? enough : too_few) = middle;
  }
  return run.recomputed_blocks == enough ? absl::OkStatus() : PlanWith(config, facts, enough, run);
}

bool MovesActivation(const Segment& segment, const Step& step) {
  return step.kind == StepKind::kMove && segment.regions[step.src.region].memory_class == MemoryClass::kActivations;
}

// Whether a micro-step moves activations off the device and back.
bool MovesActivations(const Plan& plan) {
  const Segment& micro_step = plan.segments[kMicroStepSegment];
  return std::any_of(micro_step.steps.begin(), micro_step.steps.end(),
                     [&](const Step& step) { return MovesActivation(micro_step, step); });
}

// Of the numbers of recomputed blocks that fit, chooses the one with the shortest simulated step, and of equal ones the
// smallest. Bits do not depend on the choice. Searches only if activations move, and tries only a few numbers: the time
// is assumed to fall and then rise with the number.
class BlocksByTime {
 public:
  BlocksByTime(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan& run)
      : config_(config), facts_(facts), run_(run), typical_(TypicalHostModel(facts.threads)) {
    const DerivedConfig derived = Derive(config, {.world_size = facts.world_size, .local_ranks = 1});
    micro_batches_ = derived.accumulation_steps;
  }

  // Requires that run_ has the fewest blocks.
  absl::Status Choose() {
    const int64_t fewest = run_.recomputed_blocks, all = run_.task->recomputable_blocks();
    if (fewest == all || !MovesActivations(run_.training_plan)) return absl::OkStatus();
    const StepTime with_fewest = Simulate();
    seconds_[fewest] = with_fewest.seconds;
    // Recomputation can gain at most the time that moves keep the step waiting.
    constexpr double kWorthwhile = 0.01;
    const double waits = WaitsForMoves(with_fewest);
    if (waits < kWorthwhile * with_fewest.seconds || waits <= BlockSeconds()) return absl::OkStatus();
    Keep();
    // With many blocks: if recomputing a few more makes the step longer, so does recomputing all.
    constexpr int64_t kMany = 16;
    if (all > kMany) Look(fewest + (all - fewest + kMany - 1) / kMany);
    if (all <= kMany || Best() != fewest) {
      Look(all);
      constexpr int kLooks = 5;
      for (int i = 0; i < kLooks && LookBeside(Best()); ++i) continue;
    }
    run_.recomputed_blocks = kept_.blocks;
    run_.training = std::move(kept_.graph);
    run_.training_plan = std::move(kept_.plan);
    return absl::OkStatus();
  }

 private:
  StepTime Simulate() const {
    return SimulateStep(run_.training, run_.training_plan, facts_.cost != nullptr ? *facts_.cost : typical_,
                        micro_batches_);
  }
  void Look(int64_t blocks) {
    if (seconds_.contains(blocks)) return;
    const bool fits = PlanWith(config_, facts_, blocks, run_).ok();
    seconds_[blocks] = fits ? Simulate().seconds : std::numeric_limits<double>::infinity();
    if (Best() == blocks) Keep();
  }
  // Records run_ as the best so far.
  void Keep() { kept_ = {run_.recomputed_blocks, std::move(run_.training), std::move(run_.training_plan)}; }
  // Tries the middle of the wider gap beside a number that was tried; returns false if there is no gap.
  bool LookBeside(int64_t blocks) {
    const auto at = seconds_.find(blocks);
    const int64_t below = at == seconds_.begin() ? blocks : std::prev(at)->first;
    const int64_t above = std::next(at) == seconds_.end() ? blocks : std::next(at)->first;
    const auto [low, high] = blocks - below > above - blocks ? std::pair(below, blocks) : std::pair(blocks, above);
    if (high - low < 2) return false;
    Look(low + (high - low) / 2);
    return true;
  }
  int64_t Best() const {
    return std::min_element(seconds_.begin(), seconds_.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  // The waiting time of the lanes that activations use. State may use them, too, so this is an upper bound.
  double WaitsForMoves(const StepTime& time) const {
    std::array<bool, kLaneCount> taken = {};
    const Segment& micro_step = run_.training_plan.segments[kMicroStepSegment];
    for (const Step& step : micro_step.steps) {
      if (MovesActivation(micro_step, step)) taken[static_cast<int>(step.lane)] = true;
    }
    double waits = 0;
    for (int lane = 0; lane < kLaneCount; ++lane) waits += taken[lane] ? time.critical[lane] : 0;
    return waits;
  }
  // The least time that recomputing one block adds to a step: that of its products.
  double BlockSeconds() const {
    const CostModel& cost = facts_.cost != nullptr ? *facts_.cost : typical_;
    std::vector<bool> one(static_cast<size_t>(run_.task->recomputable_blocks()), false);
    const double without = ComputeSeconds(run_.task->BuildTraining(one), cost);
    one[0] = true;
    return (ComputeSeconds(run_.task->BuildTraining(one), cost) - without) * static_cast<double>(micro_batches_);
  }

  const TrainConfig& config_;
  const RunFactsForPlan& facts_;
  RunPlan& run_;
  const CostModel typical_;
  int64_t micro_batches_ = 1;
  struct {
    int64_t blocks = 0;
    Graph graph;
    Plan plan;
  } kept_;
  std::map<int64_t, double> seconds_;  // by number of blocks; infinite if it does not fit
};

absl::Status PlanTraining(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan& run) {
  switch (config.memory().recomputation()) {
    case MemoryConfig::NONE:
      return PlanWith(config, facts, 0, run);
    case MemoryConfig::BLOCKS:
      return PlanWith(config, facts, run.task->recomputable_blocks(), run);
    default:
      RETURN_IF_ERROR(PlanWithFewestBlocks(config, facts, run));
      return BlocksByTime(config, facts, run).Choose();
  }
}

// Checks that every pattern of model.freeze matches a unit, and that a unit is left to train.
absl::Status CheckFreeze(const ModelConfig& model, const ParameterTable& table) {
  const auto units = [&] {
    std::vector<std::string> names;
    for (const Unit& unit : table.units) names.emplace_back(PatternName(unit));
    names.erase(std::unique(names.begin(), names.end()), names.end());  // split experts, whose equal names are adjacent
    return absl::StrJoin(names, ", ");
  };
  for (const std::string& pattern : model.freeze()) {
    const auto matches = [&](const Unit& unit) { return IsMeant(unit, pattern); };
    if (std::any_of(table.units.begin(), table.units.end(), matches)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("model.freeze: \"", pattern, "\" matches no unit, wanted some of ", units()));
  }
  const auto trainable = [](const Unit& unit) { return unit.trainable; };
  if (std::any_of(table.units.begin(), table.units.end(), trainable)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("model.freeze: leaves nothing to train of ", units()));
}

// Plans a graph without backward pass that is played between steps of `training`, or a graph of another bucket.
absl::StatusOr<Plan> PlanBeside(const Plan& training, const Graph& graph, const TrainConfig& config,
                                const RunFactsForPlan& facts) {
  ASSIGN_OR_RETURN(const BackendFacts backend,
                   FactsOf(graph, *facts.kernels, {.threads = facts.threads}, ShapeOf(config, facts)));
  ASSIGN_OR_RETURN(Plan plan, MakePlan(graph, backend, OptionsFromConfig(config, facts), &training.layout));
  RETURN_IF_ERROR(CheckTiersTogether(graph, plan, facts.tiers_bytes_max));
  RETURN_IF_ERROR(VerifyPlan(graph, plan));
  return plan;
}

// Plans everything that is played besides the training of bucket 0.
absl::Status PlanBuckets(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan& run) {
  const Task& task = *run.task;
  const auto beside = [&](const Graph& graph) { return PlanBeside(run.training_plan, graph, config, facts); };
  const bool averages = config.optimizer().ema_decay() > 0;
  const StateId average = averages ? FindState(run.training.states(), kEmaState) : kParameterState;
  const StateId evaluated = config.evaluation().weights() == EvaluationConfig::EMA ? average : kParameterState;
  run.evaluation = task.BuildEvaluation(evaluated);
  ASSIGN_OR_RETURN(run.evaluation_plan, beside(run.evaluation));
  for (int64_t b = 1; b < task.bucket_count(); ++b) {
    auto bucket = std::make_unique<RunPlan::Bucket>();
    bucket->training = task.BuildBucketTraining(b, Recompute(task, run.recomputed_blocks));
    AppendUpdates(bucket->training, config);
    ASSIGN_OR_RETURN(bucket->training_plan, beside(bucket->training));
    if (config.evaluation().every_steps() > 0) {
      bucket->evaluation = task.BuildBucketEvaluation(b, evaluated);
      ASSIGN_OR_RETURN(bucket->evaluation_plan, beside(bucket->evaluation));
    }
    run.other_buckets.push_back(std::move(bucket));
  }
  for (int64_t b = 0; b < task.bucket_count(); ++b) {
    run.sampling.push_back(nullptr);
    std::optional<Graph> graph = task.BuildSampling(b, average);
    if (!graph) continue;
    auto sampling = std::make_unique<RunPlan::Sampling>();
    sampling->graph = *std::move(graph);
    ASSIGN_OR_RETURN(sampling->plan, beside(sampling->graph));
    run.sampling.back() = std::move(sampling);
  }
  return absl::OkStatus();
}

bool Fits(const TrainConfig& config, const RunFactsForPlan& facts) { return TrainingFits(config, facts).ok(); }

// Changes of a single field that would make a configuration fit, mildest first.
std::vector<std::string> ChangesThatFit(const TrainConfig& config, const RunFactsForPlan& facts) {
  std::vector<std::string> changes;
  TrainConfig other = config;
  if (config.memory().recomputation() == MemoryConfig::NONE) {
    other.mutable_memory()->set_recomputation(MemoryConfig::BLOCKS);
    if (Fits(other, facts)) changes.push_back("memory.recomputation=BLOCKS");
  }
  other = config;
  for (int64_t micro = config.batch().micro_batch_sequences() / 2; micro >= 1; micro /= 2) {
    if (config.batch().global_batch_sequences() % micro != 0) continue;
    other.mutable_batch()->set_micro_batch_sequences(micro);
    if (!Fits(other, facts)) continue;
    changes.push_back(absl::StrCat("batch.micro_batch_sequences=", micro));
    break;
  }
  other = config;
  for (int stage = static_cast<int>(config.sharding().zero_stage()) + 1; stage <= 3 && facts.world_size > 1; ++stage) {
    other.mutable_sharding()->set_zero_stage(stage);
    if (!Fits(other, facts)) continue;
    changes.push_back(absl::StrCat("sharding.zero_stage=", stage));
    break;
  }
  return changes;
}

}  // namespace

int64_t FileBudget(const NvmeConfig& nvme) {
  // The file system reports how much space it has when the space is reserved.
  constexpr int64_t kUnlimitedFileBytes = int64_t{1} << 60;
  if (nvme.directory().empty()) return 0;
  return nvme.bytes() > 0 ? nvme.bytes() : kUnlimitedFileBytes;
}

std::vector<RunPlan::Played> RunPlan::played() const {
  std::vector<Played> all = {{"training", &training, &training_plan}, {"evaluation", &evaluation, &evaluation_plan}};
  for (int64_t b = 1; b < task->bucket_count(); ++b) {
    const std::string of = absl::StrCat(" of bucket ", task->BucketName(b));
    all.push_back({"training" + of, &training_of(b), &training_plan_of(b)});
    if (evaluation_of(b).ops.empty()) continue;  // nothing is evaluated
    all.push_back({"evaluation" + of, &evaluation_of(b), &evaluation_plan_of(b)});
  }
  for (size_t b = 0; b < sampling.size(); ++b) {
    if (sampling[b] == nullptr) continue;
    const std::string of = b == 0 ? "" : absl::StrCat(" of bucket ", task->BucketName(static_cast<int64_t>(b)));
    all.push_back({"sampling" + of, &sampling[b]->graph, &sampling[b]->plan});
  }
  return all;
}

int64_t RunPlan::ArenaBytes(TierKind tier) const {
  int64_t bytes = 0;
  for (const Played& each : played()) bytes = std::max(bytes, each.plan->arena_bytes[static_cast<int>(tier)]);
  return bytes;
}

std::map<OpKind, std::string> OpsRefused(const TrainConfig& config, int64_t vocab_size, const KernelTable& kernels) {
  const std::unique_ptr<const Task> task = MakeTask(config, vocab_size, StatesOf(config));
  Graph training = task->BuildTraining(std::vector<bool>(static_cast<size_t>(task->recomputable_blocks()), false));
  AppendUpdates(training, config);
  std::map<OpKind, std::string> refused = OpsRefused(training, kernels);
  refused.merge(OpsRefused(task->BuildEvaluation(kParameterState), kernels));
  for (int64_t b = 0; b < task->bucket_count(); ++b) {
    const std::optional<Graph> sampling = task->BuildSampling(b, kParameterState);
    if (sampling) refused.merge(OpsRefused(*sampling, kernels));
  }
  return refused;
}

std::unique_ptr<Task> MakePlanningTask(const TrainConfig& config, const RunFactsForPlan& facts) {
  return MakeTask(config, facts.vocab_size, StatesOf(config));
}

absl::Status MakeTrainingPlan(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan* run) {
  run->task = MakePlanningTask(config, facts);
  return PlanTraining(config, facts, *run);
}

absl::Status MakeTrainingPlanWith(const TrainConfig& config, const RunFactsForPlan& facts, int64_t recomputed_blocks,
                                  RunPlan* run) {
  run->task = MakePlanningTask(config, facts);
  return PlanWith(config, facts, recomputed_blocks, *run);
}

absl::Status TrainingFits(const TrainConfig& config, const RunFactsForPlan& facts) {
  RunPlan run;
  run.task = MakePlanningTask(config, facts);
  const int64_t layers = run.task->recomputable_blocks();
  const auto choice = config.memory().recomputation();
  if (choice != MemoryConfig::AUTO) return PlanWith(config, facts, choice == MemoryConfig::NONE ? 0 : layers, run);
  // If any choice fits, recomputing all blocks or none fits.
  const absl::Status all = PlanWith(config, facts, layers, run);
  if (all.ok() || !absl::IsResourceExhausted(all)) return all;
  return PlanWith(config, facts, 0, run).ok() ? absl::OkStatus() : all;
}

absl::StatusOr<int64_t> LeastDeviceBytes(const TrainConfig& config, const RunFactsForPlan& facts) {
  RunPlan run;
  run.task = MakePlanningTask(config, facts);
  TrainConfig smallest = config;
  smallest.mutable_memory()->set_device_bytes(1);
  int64_t least = 0;
  for (const int64_t blocks : {int64_t{0}, run.task->recomputable_blocks()}) {
    const auto choice = config.memory().recomputation();
    if (choice == (blocks == 0 ? MemoryConfig::BLOCKS : MemoryConfig::NONE)) continue;
    int64_t with_these = 0;
    const absl::Status refused = PlanWith(smallest, facts, blocks, run, &with_these);
    if (with_these == 0) return refused;
    least = least == 0 ? with_these : std::min(least, with_these);
  }
  return std::max(least, config.memory().page_bytes());
}

absl::StatusOr<std::unique_ptr<RunPlan>> MakeRunPlan(const TrainConfig& config, const RunFactsForPlan& facts) {
  auto run = std::make_unique<RunPlan>();
  run->task = MakePlanningTask(config, facts);
  RETURN_IF_ERROR(CheckFreeze(config.model(), run->task->parameters()));
  if (absl::Status status = PlanTraining(config, facts, *run); !status.ok()) {
    if (!absl::IsResourceExhausted(status)) return status;
    const std::vector<std::string> changes = ChangesThatFit(config, facts);
    if (changes.empty()) return status;
    return absl::ResourceExhaustedError(
        absl::StrCat(status.message(),
                     run->task->loss_depends_on_micro_batch()
                         ? "; a smaller micro-batch changes the balance loss, and so what is learned"
                         : "",
                     "; or set ", absl::StrJoin(changes, ", or ")));
  }
  RETURN_IF_ERROR(VerifyPlan(run->training, run->training_plan));
  RETURN_IF_ERROR(PlanBuckets(config, facts, *run));
  return run;
}

}  // namespace angel_ptm
