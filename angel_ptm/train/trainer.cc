#include "angel_ptm/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/lock_free_updater.h"
#include "angel_ptm/train/agreement.h"
#include "angel_ptm/train/drift_guard.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/reporter.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/saver.h"
#include "angel_ptm/train/start.h"
#include "angel_ptm/train/train_state.h"
#include "optim/ema.h"
#include "optim/schedule.h"

namespace angel_ptm {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The training loop of one rank.
class Trainer {
 public:
  Trainer(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options, Communicator& communicator)
      : run_(config, facts, options, communicator),
        reporter_(run_),
        schedule_(ScheduleFromConfig(config)),
        hooks_({.feed = [this](int64_t step, int64_t micro) { return Feed(step, micro); },
                .vote = [this] { return BeforeUpdate(); },
                .decide = [this](const StepExchange& exchange) { return Decide(exchange); }}),
        stop_flags_(static_cast<size_t>(communicator.size())) {}

  // Everything up to step 0. Collective.
  absl::Status Prepare();
  absl::Status Loop();
  absl::Status Close() { return run_.Close(); }

 private:
  absl::Status Step();
  // Cancels the program being played, with stop_ set, if any rank was asked to stop.
  absl::Status Feed(int64_t step, int64_t micro);
  absl::StatusOr<double> BeforeUpdate();
  // Expert loads of the step's micro-batches, summed over all ranks.
  absl::StatusOr<ExpertLoads> SumExpertLoads();
  absl::Status ExchangeStopRequests();
  UpdateDecision Decide(const StepExchange& exchange);
  // For AdamW's step `t`.
  UpdateDecision DecisionAt(float learning_rate, float gradient_scale, int64_t t) const;
  void BeginUpdater();
  absl::Status AfterLockFreeStep();
  absl::Status Drain();
  absl::Status HandleNonFinite();
  absl::StatusOr<std::string> FirstNonFinite();
  absl::Status MaybeEvaluate();
  absl::Status MaybeSample();
  // Called before anything is written, on the rank that holds the lock.
  absl::Status KeepOutput() { return start_.lock ? start_.lock->Keep() : absl::OkStatus(); }
  // Writes the trace once, when the last traced step is done or the run ends. Failures are reported; training goes on.
  absl::Status MaybeWriteTrace();

  // The position of a micro-batch of this step or the next.
  MicroBatchPosition Position(int64_t step, int64_t micro) const {
    const int64_t ahead = (step - state_.next_step) * run_.config.batch().global_batch_sequences();
    return {state_.next_sample + ahead, micro, run_.rank(), run_.communicator.size()};
  }
  // The stepper of the current step's bucket.
  Run::Stepper& stepper() { return run_.steppers[static_cast<size_t>(metrics_.bucket)]; }
  bool AskedToStop() const { return run_.options.stop_requested != nullptr && run_.options.stop_requested->load(); }
  static bool IsDue(int64_t every, int64_t step) { return every > 0 && step % every == 0; }
  bool MayJoin() const;
  bool LookedAt(int64_t step) const {
    const TrainConfig& config = run_.config;
    return IsDue(config.evaluation().every_steps(), step) || IsDue(config.checkpoint().every_steps(), step) ||
           IsDue(config.sampling().every_steps(), step);
  }
  bool LastStep() const { return state_.next_step >= run_.config.steps(); }

  RunStart start_;  // holds the output directory until the end
  Run run_;
  Reporter reporter_;
  std::optional<Saver> saver_;
  std::optional<DriftGuard> drift_;  // while the update is lock-free
  const LearningRateSchedule schedule_;
  TrainState state_;
  StepMetrics metrics_;  // of the current step
  StepSums sums_;        // of the current step, over all ranks
  RankSums load_sums_;
  const StepHooks hooks_;
  bool stop_ = false;  // some rank was asked to stop
  bool trace_written_ = false;
  bool begun_ = false;               // the step's first micro-batch ran beside the previous update
  std::vector<uint8_t> stop_flags_;  // by rank
};

absl::Status Trainer::Prepare() {
  RETURN_IF_ERROR(run_.SetUp());
  RETURN_IF_ERROR(StartOrResume(run_, start_));
  state_ = start_.state;
  RETURN_IF_ERROR(VerifyOneSequence(run_, state_));
  saver_.emplace(run_, reporter_, start_.checkpoint.empty() ? kNone : state_.next_step);
  if (LastStep()) return absl::OkStatus();
  BeginUpdater();
  RETURN_IF_ERROR(SetNewerAside(run_, start_));
  RETURN_IF_ERROR(run_.control->Barrier({"start", -1}));
  return reporter_.Start(state_.next_step, state_.next_sample);
}

absl::Status Trainer::ExchangeStopRequests() {
  const uint8_t mine = AskedToStop() ? 1 : 0;
  RETURN_IF_ERROR(run_.control->AllGather(std::as_writable_bytes(std::span(stop_flags_)),
                                          std::as_bytes(std::span(&mine, 1)), {"stop requests", state_.next_step}));
  stop_ = std::any_of(stop_flags_.begin(), stop_flags_.end(), [](uint8_t flag) { return flag != 0; });
  return absl::OkStatus();
}

absl::Status Trainer::Feed(int64_t step, int64_t micro) {
  // A step may take longer than the sender of the stop request will wait.
  if (micro > 0) RETURN_IF_ERROR(ExchangeStopRequests());
  if (stop_) return absl::CancelledError("asked to stop");
  return stepper().feeder->Feed(Position(step, micro)).status();
}

absl::StatusOr<ExpertLoads> Trainer::SumExpertLoads() {
  ExpertLoads loads = run_.task->ReadExpertLoads(run_.plan->training_of(metrics_.bucket), *stepper().executor);
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& layer : loads) all.insert(all.end(), layer.begin(), layer.end());
  RETURN_IF_ERROR(load_sums_.Sum(all, {"experts' loads", state_.next_step}, *run_.control));
  auto next = all.begin();
  for (std::vector<int64_t>& layer : loads) {
    for (int64_t& load : layer) load = *next++;
  }
  return loads;
}

absl::StatusOr<double> Trainer::BeforeUpdate() {
  // Read the loads now: the next micro-batch and evaluation write their own numbers to the same addresses.
  ASSIGN_OR_RETURN(ExpertLoads loads, SumExpertLoads());
  if (run_.rank() == 0) {
    metrics_.step_numbers = run_.task->LoadNumbers(loads);
    if (run_.steppers.size() > 1) {
      metrics_.step_numbers.push_back({"bucket", static_cast<double>(metrics_.bucket),
                                       absl::StrCat("bucket ", run_.task->BucketName(metrics_.bucket))});
    }
    if (reporter_.IsLogged(state_.next_step) || state_.next_step + 1 == run_.config.steps()) {
      metrics_.expert_loads = std::move(loads);
    }
  }
  return AskedToStop() ? 1 : 0;
}

// Runs on the comm lane while this thread waits in Run.
UpdateDecision Trainer::Decide(const StepExchange& exchange) {
  sums_ = exchange.sums;
  const double count = exchange.sums.weight;
  metrics_.loss = exchange.sums.loss / count;
  metrics_.grad_norm = std::sqrt(exchange.sums.squares.ToDouble()) / count;
  stop_ = exchange.votes > 0;
  metrics_.skipped = !std::isfinite(metrics_.loss) || !std::isfinite(metrics_.grad_norm);
  if (metrics_.skipped) return {.apply = false};
  const double clip = ClipFactor(metrics_.grad_norm, run_.config.optimizer().gradient_clip_norm());
  return DecisionAt(static_cast<float>(metrics_.learning_rate), static_cast<float>(clip / count),
                    ++state_.applied_updates);
}

UpdateDecision Trainer::DecisionAt(float learning_rate, float gradient_scale, int64_t t) const {
  const AdamwConfig& adamw = run_.config.optimizer().adamw();
  const double power = static_cast<double>(t);
  return {.scalars = {.learning_rate = learning_rate,
                      .gradient_scale = gradient_scale,
                      .bias_correction1 = static_cast<float>(1 - std::pow(adamw.beta1(), power)),
                      .bias_correction2 = static_cast<float>(1 - std::pow(adamw.beta2(), power))},
          .ema = {static_cast<float>(EmaRate(run_.config.optimizer().ema_decay(), t))}};
}

void Trainer::BeginUpdater() {
  LockFreeUpdater* const updater = run_.updater();
  const size_t units = run_.plan->training.units().size();
  if (updater == nullptr) {
    state_.unit_updates.clear();
    state_.fell_back = false;
    state_.losses = state_.gradient_norms = {};
    return;
  }
  // The checkpoint of a synchronous run has a single count for all units.
  if (state_.unit_updates.size() != units) state_.unit_updates.assign(units, state_.applied_updates);
  const LockFreeConfig& lock_free = run_.config.optimizer().lock_free();
  const int64_t max_staleness = state_.fell_back ? 0 : lock_free.max_staleness();
  updater->Begin({.max_staleness = max_staleness,
                  .next_step = state_.next_step,
                  .updates = state_.unit_updates,
                  .scalars_at = [this](const UpdateDecision& of_step, int64_t update) {
                    return DecisionAt(of_step.scalars.learning_rate, of_step.scalars.gradient_scale, update);
                  }});
  if (max_staleness > 0) {
    drift_.emplace(lock_free.loss_band(), lock_free.gradient_norm_band());
    drift_->Remember(state_.losses, state_.gradient_norms);
  }
  if (state_.fell_back) run_.Print("note: the run fell back to the synchronous update earlier and keeps using it");
}

// All ranks see the same numbers, so all fall back or none does.
absl::Status Trainer::AfterLockFreeStep() {
  LockFreeUpdater* const updater = run_.updater();
  if (updater == nullptr) return absl::OkStatus();
  metrics_.units_by_lag = updater->units_by_lag();
  metrics_.update_wait_seconds = updater->TakeWaitSeconds();
  if (!drift_ || metrics_.skipped) return absl::OkStatus();
  const std::string why = drift_->Add(metrics_.loss, metrics_.grad_norm);
  state_.losses = drift_->losses();
  state_.gradient_norms = drift_->gradient_norms();
  if (why.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(Drain());
  updater->SetMaxStaleness(0);
  drift_.reset();
  state_.fell_back = metrics_.fell_back = true;
  run_.Print(absl::StrCat("warning: step ", metrics_.step, ": ", why,
                          ": pending updates are applied, and the run continues synchronously"));
  return absl::OkStatus();
}

absl::Status Trainer::Drain() {
  LockFreeUpdater* const updater = run_.updater();
  if (updater == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(updater->Drain());
  state_.unit_updates = updater->updates();
  return absl::OkStatus();
}

absl::Status Trainer::Step() {
  reporter_.TakeBusySeconds();  // drop the time between the steps
  const double begin = Seconds();
  metrics_ = {.step = state_.next_step,
              .bucket = run_.task->BucketOf(state_.next_sample),
              .learning_rate = schedule_.At(state_.next_step)};
  const bool begun = std::exchange(begun_, MayJoin());
  const Program& program = *run_.plan->training_plan_of(metrics_.bucket).FindProgram(begun, begun_);
  const absl::Status played =
      stepper().executor->Run(program, state_.next_step, run_.derived.accumulation_steps, hooks_);
  // Stopped between micro-batches: nothing of the step has changed the state yet.
  if (absl::IsCancelled(played) && stop_) {
    RETURN_IF_ERROR(Drain());
    RETURN_IF_ERROR(KeepOutput());
    return saver_->SaveIfDue(state_, /*last=*/true);
  }
  RETURN_IF_ERROR(played);
  for (TaskNumber& number : run_.task->LossNumbers(run_.plan->training_of(metrics_.bucket), sums_)) {
    metrics_.step_numbers.push_back(std::move(number));
  }
  metrics_.seconds = Seconds() - begin;
  metrics_.steps_computed = 1 + ((begun_ ? 1.0 : 0.0) - (begun ? 1.0 : 0.0)) / run_.derived.accumulation_steps;
  metrics_.busy_seconds = reporter_.TakeBusySeconds();
  if (metrics_.skipped) RETURN_IF_ERROR(HandleNonFinite());
  if (!metrics_.skipped) state_.skipped_in_a_row = 0;
  RETURN_IF_ERROR(AfterLockFreeStep());
  ++state_.next_step;
  state_.next_sample += run_.config.batch().global_batch_sequences();
  if (LastStep() || stop_ || LookedAt(state_.next_step)) RETURN_IF_ERROR(Drain());
  RETURN_IF_ERROR(KeepOutput());
  RETURN_IF_ERROR(MaybeEvaluate());
  RETURN_IF_ERROR(MaybeSample());
  RETURN_IF_ERROR(MaybeWriteTrace());
  const bool last = LastStep() || stop_;
  reporter_.Report(metrics_, metrics_.validation_loss || metrics_.skipped || last);
  return saver_->SaveIfDue(state_, last);
}

// Decides by what all ranks know alike. A stop request that arrives meanwhile wastes the micro-batch that was begun.
// Only steps of the same graph can be joined, hence the single bucket.
bool Trainer::MayJoin() const {
  const int64_t after = state_.next_step + 1;
  return run_.steppers.size() == 1 &&
         run_.plan->training_plan.FindProgram(/*begun=*/false, /*begins_next=*/true) != nullptr &&
         after < run_.config.steps() && !LookedAt(after);
}

absl::Status Trainer::HandleNonFinite() {
  ++state_.skipped_updates;
  ++state_.skipped_in_a_row;
  saver_->Skipped(state_.next_step);
  if (state_.skipped_in_a_row <= run_.config.optimizer().skipped_steps_max()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string where, FirstNonFinite());
  const int64_t before = state_.skipped_in_a_row - 1;
  return absl::FailedPreconditionError(absl::StrCat(
      "step ", state_.next_step, " has a non-finite loss (", metrics_.loss, ") or gradient norm (", metrics_.grad_norm,
      before > 0 ? absl::StrCat("), as the ", before, " steps before it") : std::string(")"),
      "; optimizer.skipped_steps_max is ", run_.config.optimizer().skipped_steps_max(),
      "; the first tensor that went bad: ", where, "; ", saver_->WayBack()));
}

// Plays the step's micro-batches again until one shows, on any rank, which tensor became non-finite first. The step
// changed no parameter, so the numbers are the same. If gradients at their homes are overwritten, the next step would
// do that anyway.
absl::StatusOr<std::string> Trainer::FirstNonFinite() {
  std::vector<NonFinite> found(run_.communicator.size());
  for (int64_t micro = 0; micro < run_.derived.accumulation_steps; ++micro) {
    RETURN_IF_ERROR(stepper().feeder->Feed(Position(state_.next_step, micro)).status());
    ASSIGN_OR_RETURN(const NonFinite mine, stepper().executor->FindNonFinite(state_.next_step));
    RETURN_IF_ERROR(run_.control->AllGather(std::as_writable_bytes(std::span(found)),
                                            std::as_bytes(std::span(&mine, 1)), {"first non-finite tensor", micro}));
    int rank = kNone;
    for (int r = 0; r < run_.communicator.size(); ++r) {
      if (found[r].op != kNone && (rank == kNone || found[r].op < found[rank].op)) rank = r;
    }
    if (rank == kNone) continue;
    return absl::StrCat(Describe(run_.plan->training_of(metrics_.bucket), found[rank]), " (micro-batch ", micro,
                        " of rank ", rank, ")");
  }
  return std::string("none: every tensor is finite, their sum over ranks or micro-batches is not");
}

absl::Status Trainer::MaybeEvaluate() {
  const int64_t every = run_.config.evaluation().every_steps();
  if (every == 0 || (!IsDue(every, state_.next_step) && !LastStep())) return absl::OkStatus();
  LossSums sums;
  for (const Run::Evaluated& bucket : run_.evaluated) {
    ASSIGN_OR_RETURN(const LossSums of_bucket, bucket.evaluator->Evaluate());
    sums += of_bucket;
  }
  metrics_.validation_loss = sums.loss / sums.weight;
  metrics_.validation_numbers = run_.task->EvaluationNumbers(sums);
  return absl::OkStatus();
}

// Comes before the checkpoint, so that whatever is saved has its samples.
absl::Status Trainer::MaybeSample() {
  if (!run_.sample_maker || (!IsDue(run_.config.sampling().every_steps(), state_.next_step) && !LastStep())) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string said, run_.sample_maker->Make(state_.next_step));
  run_.Print(said);
  reporter_.SamplesChanged();
  return absl::OkStatus();
}

absl::Status Trainer::MaybeWriteTrace() {
  if (!run_.trace || trace_written_ || (state_.next_step < run_.trace->end_step() && !LastStep() && !stop_)) {
    return absl::OkStatus();
  }
  trace_written_ = true;
  const OutputConfig& output = run_.config.output();
  if (run_.trace->empty()) {
    run_.Print(absl::StrCat("warning: no trace: the run did not execute steps ", output.trace_first_step(), " to ",
                            run_.trace->end_step() - 1, " (output.trace_first_step, output.trace_steps)"));
    return absl::OkStatus();
  }
  const std::string path = absl::StrCat(output.directory(), "/trace-", run_.rank(), ".json");
  const absl::Status written =
      ShareStatus(WriteFile(path, run_.trace->ToJson(run_.rank())), {"trace", state_.next_step}, *run_.control);
  if (absl::IsUnavailable(written)) return written;
  run_.Print(written.ok() ? absl::StrCat("trace of the steps from ", output.trace_first_step(), " on: ", path,
                                         run_.communicator.size() > 1 ? ", and one for every other rank" : "")
                          : absl::StrCat("warning: no trace: ", written.message(), "; training goes on"));
  return absl::OkStatus();
}

absl::Status Trainer::Loop() {
  if (LastStep()) {
    run_.Print(absl::StrCat("nothing to do: step ", state_.next_step, " is reached and steps is ", run_.config.steps(),
                            "; a larger value of steps continues the run"));
    return absl::OkStatus();
  }
  const double begin = Seconds();
  while (!LastStep() && !stop_) {
    const absl::Status done = Step();
    if (!done.ok() && KeepOutput().ok()) reporter_.Fail(done, state_.next_step);
    RETURN_IF_ERROR(done);
  }
  RETURN_IF_ERROR(MaybeWriteTrace());
  if (stop_ && !LastStep()) {
    run_.Print(absl::StrCat("stopped at step ", state_.next_step, " as asked; continue with --resume"));
  }
  if (state_.skipped_updates > 0) {
    run_.Print(absl::StrCat(Counted(state_.skipped_updates, "step"), " skipped as non-finite"));
  }
  return reporter_.Finish(Seconds() - begin, stop_ && !LastStep(), state_.next_step);
}

}  // namespace

absl::Status TrainRank(const TrainConfig& config, const RunFacts& facts, const TrainerOptions& options,
                       Communicator& communicator) {
  Trainer trainer(config, facts, options, communicator);
  RETURN_IF_ERROR(trainer.Prepare());
  RETURN_IF_ERROR(trainer.Loop());
  return trainer.Close();
}

}  // namespace angel_ptm
