#include "angel_ptm/train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/data/loader.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/batch_feeder.h"
#include "angel_ptm/train/evaluate.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/matrix_peak.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/train_state.h"
#include "comm/checked.h"
#include "optim/schedule.h"

namespace angel_ptm {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The slots of StepExchange::payload.
enum Payload { kLossSum, kTargetCount, kStopRequests, kPayloadUnused };

class Trainer {
 public:
  Trainer(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options, Communicator& communicator)
      : config_(config),
        derived_(Derive(config, facts)),
        options_(options),
        communicator_(&communicator, SequenceCheck::kHistory) {}

  absl::Status Prepare();
  absl::Status Run();

 private:
  bool prints() const { return communicator_.rank() == 0 && options_.out != nullptr; }
  void Print(const std::string& text) const {
    if (!prints()) return;
    std::fprintf(options_.out, "%s\n", text.c_str());
    std::fflush(options_.out);
  }

  absl::Status OpenData();
  absl::Status MakeMachine();
  absl::Status VerifyOneSequence();
  absl::Status StartOrResume();
  void PrintStart() const;
  void PrintLanes(double seconds);

  absl::Status Step();
  absl::Status MicroSteps(double& loss_sum, double& target_count);
  UpdateDecision Decide(const StepExchange& exchange);
  absl::Status HandleNonFinite();
  absl::StatusOr<std::string> FirstNonFinite();
  absl::Status MaybeEvaluate();
  absl::Status MaybeSave(bool last);
  absl::Status Report(double seconds);
  absl::Status FlushMetrics() { return metrics_file_ ? metrics_file_->Flush() : absl::OkStatus(); }
  std::optional<double> ExpertBalance() const;
  MicroBatchPlace Place(int64_t micro) const {
    return {state_.next_sample, micro, communicator_.rank(), communicator_.size()};
  }
  bool LastStep() const { return state_.next_step >= config_.steps(); }

  const TrainConfig& config_;
  const DerivedConfig derived_;
  const TrainerOptions& options_;
  CheckedCommunicator communicator_;

  TextDataset dataset_;
  std::optional<Loader> train_loader_, validation_loader_;
  std::vector<int32_t> token_bytes_;

  std::unique_ptr<RunPlan> plan_;
  std::shared_ptr<Tier> device_, host_;
  Lanes lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_, validation_executor_;
  std::unique_ptr<BatchFeeder> feeder_, validation_feeder_;
  std::optional<Evaluator> evaluator_;
  std::vector<StateView> views_;
  std::vector<TensorId> expert_counts_;  // by MoE layer
  mutable std::vector<int32_t> counts_;

  LearningRateSchedule schedule_;
  TrainState state_;
  std::optional<MetricsFile> metrics_file_;
  StepMetrics metrics_;        // of the current step
  bool stop_ = false;          // some rank was asked to stop
  double matrix_peak_ = 0;     // FLOP/s of all ranks
  double flops_per_step_ = 0;  // of all ranks
  double mean_seconds_ = 0;    // per step, exponentially averaged
};

absl::Status Trainer::OpenData() {
  const std::string& directory = config_.data().directory();
  ASSIGN_OR_RETURN(dataset_, OpenTextDataset(directory, config_.data().sequence_length()));
  token_bytes_ = dataset_.tokenizer->TokenByteLengths();
  const int64_t vocab_size = config_.model().hunyuan_lm().vocab_size();
  if (vocab_size > 0 && vocab_size < static_cast<int64_t>(token_bytes_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("model.hunyuan_lm.vocab_size: smaller than the tokenizer of ",
                                                   directory, ", wanted 0 or at least ", token_bytes_.size(), ", got ",
                                                   vocab_size));
  }
  LoaderOptions options{.global_batch = config_.batch().global_batch_sequences(),
                        .micro_batch = config_.batch().micro_batch_sequences(),
                        .seed = config_.seed()};
  ASSIGN_OR_RETURN(train_loader_, Loader::Create(dataset_.train.get(), options));
  if (config_.evaluation().every_steps() == 0) return absl::OkStatus();
  if (dataset_.validation == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("evaluation.every_steps: ", directory,
                                                   " has no validation text, wanted 0, got ",
                                                   config_.evaluation().every_steps()));
  }
  options.evaluation_samples = config_.evaluation().sequences();
  ASSIGN_OR_RETURN(validation_loader_, Loader::Create(dataset_.validation.get(), options));
  return absl::OkStatus();
}

absl::Status Trainer::MakeMachine() {
  ASSIGN_OR_RETURN(plan_, MakeRunPlan(config_, {.world_size = communicator_.size(),
                                                .rank = communicator_.rank(),
                                                .threads = derived_.threads_per_rank,
                                                .vocab_size = static_cast<int64_t>(token_bytes_.size()),
                                                .host_bytes_max = derived_.host_bytes,
                                                .tiers_bytes_max = derived_.tiers_bytes}));
  const auto bytes = [&](TierKind tier) {
    const int t = static_cast<int>(tier);
    return std::max(plan_->training_plan.arena_bytes[t], plan_->evaluation_plan.arena_bytes[t]);
  };
  ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, bytes(TierKind::kDevice)));
  ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, bytes(TierKind::kHost)));
  communicator_.KeepAlive(device_);
  communicator_.KeepAlive(host_);
  machine_ = {device_.get(),   host_.get(), &communicator_, &CpuKernels(), &lanes_, derived_.threads_per_rank,
              options_.publish};
  const AdamwConfig& adamw = config_.optimizer().adamw();
  const AdamWConstants constants{static_cast<float>(adamw.beta1()), static_cast<float>(adamw.beta2()),
                                 static_cast<float>(adamw.epsilon()), static_cast<float>(adamw.weight_decay())};
  ASSIGN_OR_RETURN(executor_, Executor::Create(plan_->training, plan_->training_plan, machine_, constants));
  feeder_ = std::make_unique<BatchFeeder>(plan_->training, *executor_, *train_loader_);
  if (validation_loader_) {
    ASSIGN_OR_RETURN(validation_executor_,
                     Executor::Create(plan_->evaluation, plan_->evaluation_plan, machine_, constants));
    validation_feeder_ = std::make_unique<BatchFeeder>(plan_->evaluation, *validation_executor_, *validation_loader_);
    evaluator_.emplace(*validation_executor_, *validation_feeder_, token_bytes_, communicator_);
  }
  views_ = StateViews(plan_->training_plan.layout, machine_);
  for (const Op& op : plan_->training.ops) {
    if (op.kind == OpKind::kRouter && op.phase == Phase::kForward) expert_counts_.push_back(op.outputs[3]);
  }
  counts_.resize(plan_->shape.num_experts);
  flops_per_step_ = ModelFlops(plan_->training) * static_cast<double>(derived_.micro_batches);
  return absl::OkStatus();
}

absl::Status Trainer::StartOrResume() {
  const ScheduleConfig& schedule = config_.optimizer().schedule();
  const ScheduleKind kind = schedule.kind() == ScheduleConfig::COSINE   ? ScheduleKind::kCosine
                            : schedule.kind() == ScheduleConfig::LINEAR ? ScheduleKind::kLinear
                                                                        : ScheduleKind::kConstant;
  schedule_ = {kind, config_.optimizer().adamw().learning_rate(), schedule.warmup_steps(), config_.steps(),
               schedule.final_learning_rate_ratio()};
  const std::string numerics =
      DescribeNumerics(config_, communicator_.size(), derived_.threads_per_rank, machine_.kernels->name);
  const std::string sample_order = DescribeSampleOrder(config_, dataset_.manifest);
  ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(CheckpointDirectory(config_)));
  if (!latest.warning.empty()) Print(absl::StrCat("warning: ", latest.warning));
  if (!options_.resume) {
    if (!latest.path.empty()) {
      return absl::AlreadyExistsError(absl::StrCat(latest.path,
                                                   " exists already: continue it with --resume, or choose "
                                                   "another output.directory"));
    }
    InitialiseState(plan_->training, config_.seed(), views_);
  } else {
    if (latest.path.empty()) {
      return absl::NotFoundError(absl::StrCat("--resume: there is no checkpoint in ", CheckpointDirectory(config_)));
    }
    ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(latest.path));
    RETURN_IF_ERROR(checkpoint.CheckGraph(plan_->training));
    RETURN_IF_ERROR(CheckSameModel(config_, checkpoint));
    ASSIGN_OR_RETURN(state_, TrainStateFromJson(checkpoint.manifest().trainer_state, latest.path));
    if (state_.sample_order != sample_order) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--resume: ", latest.path, " was trained on other samples: ", state_.sample_order, "; this run has ",
          sample_order, ": restore data.directory, data.sequence_length and seed, or choose another output.directory"));
    }
    RETURN_IF_ERROR(LoadState(checkpoint, views_));
    Print(absl::StrCat("resumed ", latest.path, " at step ", state_.next_step));
    if (state_.numerics != numerics) {
      Print(absl::StrCat("note: the checkpoint was trained with ", state_.numerics, "; this run has ", numerics,
                         ": it continues within rounding, not bit for bit"));
    }
  }
  state_.sample_order = sample_order;
  state_.numerics = numerics;
  return absl::OkStatus();
}

void Trainer::PrintStart() const {
  if (!prints()) return;
  const Graph& graph = plan_->training;
  Print(absl::StrCat("model: ", FormatCount(static_cast<double>(graph.ParameterCount())), " parameters, ",
                     plan_->shape.num_hidden_layers, " layers",
                     plan_->shape.is_moe()
                         ? absl::StrCat(", ", plan_->shape.num_experts, " experts, top ", plan_->shape.moe_topk)
                         : std::string(", dense"),
                     ", vocabulary ", plan_->shape.vocab_size));
  Print(absl::StrCat(
      "run: ", communicator_.size(), " ranks x ", derived_.threads_per_rank, " threads, ZeRO stage ",
      config_.sharding().zero_stage(), ", ", config_.batch().global_batch_sequences(), " sequences of ",
      config_.data().sequence_length(), " tokens a step in ", derived_.accumulation_steps, " micro-batches per rank",
      plan_->recomputed_blocks > 0 ? absl::StrCat(", ", plan_->recomputed_blocks, " blocks recomputed") : ""));
  Print(MemoryTable(plan_->training_plan));
  Print(absl::StrCat("matrix peak measured: ", FormatCount(matrix_peak_), "FLOP/s over all ranks"));
}

// The loop around the Plans and the samples it feeds, then all Plans' collectives, in the order of a step (law 4).
absl::Status Trainer::VerifyOneSequence() {
  const std::string loop =
      absl::StrCat("at step ", state_.next_step, " of ", config_.steps(), " (", derived_.accumulation_steps,
                   " micro-batches a step, evaluation of ", validation_loader_ ? validation_loader_->sample_count() : 0,
                   " samples every ", config_.evaluation().every_steps(), " steps, checkpoint every ",
                   config_.checkpoint().every_steps(), ")");
  std::vector<CollectiveEntry> planned = {
      {CollectiveVerb::kBarrier, loop, 0},
      {CollectiveVerb::kBarrier, absl::StrCat("before sample ", state_.next_sample, ", ", state_.sample_order), 0}};
  const auto append = [&](const Graph& graph, const Segment& segment) {
    for (const PlannedCollective& c : CollectivesOf(graph, segment)) {
      const CollectiveVerb verb =
          c.kind == StepKind::kReduce ? CollectiveVerb::kReduceScatter : CollectiveVerb::kAllGather;
      planned.push_back({verb, c.what, c.bytes});
    }
  };
  append(plan_->training, plan_->training_plan.micro_step);
  append(plan_->training, plan_->training_plan.update);
  append(plan_->evaluation, plan_->evaluation_plan.micro_step);
  // Last, so that what it changes in the sequence is named before it: a learning rate, say, changes nothing there.
  const uint64_t digest = Hasher().Mix(ToText(config_)).Digest();
  planned.push_back(
      {CollectiveVerb::kBarrier, absl::StrCat("under configuration ", absl::Hex(digest, absl::kZeroPad16)), 0});
  return communicator_.VerifySameSequence(planned);
}

absl::Status Trainer::Prepare() {
  RETURN_IF_ERROR(OpenData());
  RETURN_IF_ERROR(MakeMachine());
  RETURN_IF_ERROR(StartOrResume());
  RETURN_IF_ERROR(VerifyOneSequence());
  RETURN_IF_ERROR(communicator_.Barrier({"start", -1}));
  double peak = MeasureMatrixPeak(*machine_.kernels, machine_.threads);
  std::vector<double> peaks(communicator_.size());
  RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(peaks)), std::as_bytes(std::span(&peak, 1)),
                                          {"matrix peak", -1}));
  for (double p : peaks) matrix_peak_ += p;
  if (communicator_.rank() == 0) {
    ASSIGN_OR_RETURN(MetricsFile file, MetricsFile::Open(config_.output().directory(), state_.next_step));
    metrics_file_.emplace(std::move(file));
  }
  PrintStart();
  return absl::OkStatus();
}

absl::Status Trainer::MicroSteps(double& loss_sum, double& target_count) {
  for (int64_t micro = 0; micro < derived_.accumulation_steps; ++micro) {
    feeder_->Feed(Place(micro));
    RETURN_IF_ERROR(executor_->RunMicroStep(micro > 0, state_.next_step));
    loss_sum += feeder_->LossSum();
    target_count += static_cast<double>(feeder_->target_count());
  }
  return absl::OkStatus();
}

// Runs on the comm lane while this thread waits in RunUpdate.
UpdateDecision Trainer::Decide(const StepExchange& exchange) {
  const double count = exchange.payload[kTargetCount];
  metrics_.loss = exchange.payload[kLossSum] / count;
  metrics_.grad_norm = std::sqrt(exchange.squares.ToDouble()) / count;
  stop_ = exchange.payload[kStopRequests] > 0;
  metrics_.skipped = !std::isfinite(metrics_.loss) || !std::isfinite(metrics_.grad_norm);
  if (metrics_.skipped) return {.apply = false};
  const double t = static_cast<double>(++state_.applied_updates);
  const AdamwConfig& adamw = config_.optimizer().adamw();
  const double clip = ClipFactor(metrics_.grad_norm, config_.optimizer().gradient_clip_norm());
  return {.scalars = {.learning_rate = static_cast<float>(metrics_.learning_rate),
                      .gradient_scale = static_cast<float>(clip / count),
                      .bias_correction1 = static_cast<float>(1 - std::pow(adamw.beta1(), t)),
                      .bias_correction2 = static_cast<float>(1 - std::pow(adamw.beta2(), t))}};
}

absl::Status Trainer::Step() {
  const double begin = Seconds();
  metrics_ = {.step = state_.next_step, .learning_rate = schedule_.At(state_.next_step)};
  double loss_sum = 0, target_count = 0;
  RETURN_IF_ERROR(MicroSteps(loss_sum, target_count));
  const bool stop = options_.stop_requested != nullptr && options_.stop_requested->load();
  RETURN_IF_ERROR(executor_->RunUpdate(state_.next_step, {loss_sum, target_count, stop ? 1.0 : 0.0, 0},
                                       [this](const StepExchange& exchange) { return Decide(exchange); }));
  const double seconds = Seconds() - begin;
  if (metrics_.skipped) RETURN_IF_ERROR(HandleNonFinite());
  if (!metrics_.skipped) state_.skipped_in_a_row = 0;
  ++state_.next_step;
  state_.next_sample += config_.batch().global_batch_sequences();
  // Evaluation writes its own counts to the same addresses.
  if (communicator_.rank() == 0) metrics_.expert_balance = ExpertBalance();
  RETURN_IF_ERROR(MaybeEvaluate());
  RETURN_IF_ERROR(Report(seconds));
  return MaybeSave(LastStep() || stop_);
}

absl::Status Trainer::HandleNonFinite() {
  ++state_.skipped_updates;
  ++state_.skipped_in_a_row;
  if (state_.skipped_in_a_row <= config_.optimizer().skipped_steps_max()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string where, FirstNonFinite());
  const int64_t before = state_.skipped_in_a_row - 1;
  return absl::FailedPreconditionError(absl::StrCat(
      "step ", state_.next_step, " has a non-finite loss (", metrics_.loss, ") or gradient norm (", metrics_.grad_norm,
      before > 0 ? absl::StrCat("), as the ", before, " steps before it") : std::string(")"),
      "; optimizer.skipped_steps_max is ", config_.optimizer().skipped_steps_max(),
      "; the first tensor that went bad: ", where));
}

// Plays the step's micro-batches again until one shows, on any rank, which tensor went bad first. The step changed no
// parameter, so they give the same numbers; the gradient homes are overwritten, which the next step does anyway.
absl::StatusOr<std::string> Trainer::FirstNonFinite() {
  std::vector<NonFinite> found(communicator_.size());
  for (int64_t micro = 0; micro < derived_.accumulation_steps; ++micro) {
    feeder_->Feed(Place(micro));
    ASSIGN_OR_RETURN(const NonFinite mine, executor_->FindNonFinite(micro > 0, state_.next_step));
    RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(found)),
                                            std::as_bytes(std::span(&mine, 1)), {"first non-finite tensor", micro}));
    int rank = kNone;
    for (int r = 0; r < communicator_.size(); ++r) {
      if (found[r].op != kNone && (rank == kNone || found[r].op < found[rank].op)) rank = r;
    }
    if (rank == kNone) continue;
    return absl::StrCat(Describe(plan_->training, found[rank]), " (micro-batch ", micro, " of rank ", rank, ")");
  }
  return std::string("none: every tensor is finite, their sum over ranks or micro-batches is not");
}

absl::Status Trainer::MaybeEvaluate() {
  const int64_t every = config_.evaluation().every_steps();
  if (every == 0 || (state_.next_step % every != 0 && !LastStep())) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Validation validation, evaluator_->Evaluate());
  metrics_.validation_loss = validation.loss;
  metrics_.validation_bits_per_byte = validation.bits_per_byte;
  return absl::OkStatus();
}

std::optional<double> Trainer::ExpertBalance() const {
  if (expert_counts_.empty()) return std::nullopt;
  double worst = 1;
  for (TensorId tensor : expert_counts_) {
    executor_->ReadOutput(tensor, counts_.data());
    double sum = 0, fullest = 0;
    for (int32_t count : counts_) {
      sum += count;
      fullest = std::max<double>(fullest, count);
    }
    worst = std::max(worst, fullest * static_cast<double>(counts_.size()) / sum);
  }
  return worst;
}

absl::Status Trainer::Report(double seconds) {
  if (communicator_.rank() != 0) return absl::OkStatus();
  metrics_.tokens_per_second = static_cast<double>(derived_.step_tokens) / seconds;
  metrics_.peak_fraction = matrix_peak_ > 0 ? flops_per_step_ / seconds / matrix_peak_ : 0;
  mean_seconds_ = mean_seconds_ == 0 ? seconds : 0.95 * mean_seconds_ + 0.05 * seconds;
  const bool was_behind = metrics_file_->behind();
  if (const absl::Status written = metrics_file_->Append(metrics_); !written.ok() && !was_behind) {
    Print(absl::StrCat("warning: ", written.message(), "; training goes on, its lines are kept until there is room"));
  }
  const int64_t every = config_.output().log_every_steps();
  const bool log = every > 0 && (state_.next_step % every == 0 || state_.next_step == 1);
  if (log || metrics_.validation_loss || metrics_.skipped || LastStep() || stop_) {
    Print(ProgressLine(metrics_, {config_.steps(), mean_seconds_}));
  }
  return absl::OkStatus();
}

absl::Status Trainer::MaybeSave(bool last) {
  const int64_t every = config_.checkpoint().every_steps();
  if (!last && (every == 0 || state_.next_step % every != 0)) return absl::OkStatus();
  RETURN_IF_ERROR(communicator_.VerifySameHistory({"collectives so far", state_.next_step}));
  // A checkpoint outlives a crash of the machine: so must the lines of its steps, which no resumed run repeats.
  if (const absl::Status durable = FlushMetrics(); !durable.ok()) Print(absl::StrCat("warning: ", durable.message()));
  const absl::StatusOr<SavedCheckpoint> saved =
      SaveCheckpoint(config_, plan_->training, views_, state_, dataset_, communicator_);
  if (saved.ok()) {
    Print(absl::StrCat("saved ", saved->path, " (", FormatBytes(saved->bytes), ")",
                       saved->warning.empty() ? "" : absl::StrCat("; warning: ", saved->warning)));
    return absl::OkStatus();
  }
  // The state is in memory and earlier checkpoints are intact: only a run that ends here has lost something.
  if (last) return saved.status();
  Print(absl::StrCat("warning: checkpoint not saved, training goes on: ", saved.status().message()));
  return absl::OkStatus();
}

// Where this rank's time went: a busy comm lane beside an idle compute lane asks for another stage or more prefetch.
void Trainer::PrintLanes(double seconds) {
  const std::array<double, kLaneCount> busy = lanes_.TakeBusySeconds();
  std::string text = absl::StrFormat("%s; lanes of rank 0 busy:", FormatSeconds(seconds));
  for (int lane = 0; lane < kLaneCount; ++lane) {
    absl::StrAppend(&text, absl::StrFormat("%s %s %.0f%%", lane == 0 ? "" : ",", Name(static_cast<Lane>(lane)),
                                           seconds > 0 ? 100 * busy[lane] / seconds : 0));
  }
  Print(text);
}

absl::Status Trainer::Run() {
  const double begin = Seconds();
  while (!LastStep() && !stop_) {
    RETURN_IF_ERROR(Step());
  }
  if (stop_ && !LastStep())
    Print(absl::StrCat("stopped at step ", state_.next_step, " as asked; continue with --resume"));
  PrintLanes(Seconds() - begin);
  if (state_.skipped_updates > 0) Print(absl::StrCat(state_.skipped_updates, " steps were skipped as non-finite"));
  const absl::Status flushed = FlushMetrics();
  if (flushed.ok()) return absl::OkStatus();
  if (metrics_file_->behind()) {
    return absl::Status(flushed.code(),
                        absl::StrCat(metrics_file_->path(), " lacks the run's last lines: ", flushed.message()));
  }
  Print(absl::StrCat("warning: ", flushed.message()));
  return absl::OkStatus();
}

}  // namespace

absl::Status TrainRank(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options,
                       Communicator& communicator) {
  Trainer trainer(config, facts, options, communicator);
  RETURN_IF_ERROR(trainer.Prepare());
  return trainer.Run();
}

}  // namespace angel_ptm
