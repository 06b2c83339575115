#include "angel_ptm/train/reporter.h"

#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/lock_free_updater.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/agreement.h"
#include "angel_ptm/train/matrix_peak.h"
#include "angel_ptm/train/report/history.h"
#include "angel_ptm/train/report/run_sheet.h"

namespace angel_ptm {
namespace {

constexpr char kExpertsFile[] = "experts.jsonl";

// Uses the names of progress lines.
std::vector<std::pair<std::string, double>> ScalarsOf(const StepMetrics& m) {
  std::vector<std::pair<std::string, double>> scalars = {
      {"loss", m.loss},         {"grad_norm", m.grad_norm}, {"lr", m.learning_rate}, {"tps", m.tokens_per_second},
      {"mfu", m.peak_fraction}, {"tflops", m.tflops},       {"seconds", m.seconds}};
  for (const TierKind tier : kAllTiers) {
    scalars.emplace_back(absl::StrCat("memory/", Name(tier), "_bytes"),
                         static_cast<double>(m.tier_bytes[static_cast<int>(tier)]));
  }
  for (int lane = 0; lane < kLaneCount; ++lane) {
    scalars.emplace_back(absl::StrCat("busy/", Name(static_cast<Lane>(lane))), m.busy_seconds[lane]);
  }
  for (const TaskNumber& n : m.step_numbers) scalars.emplace_back(n.name, n.value);
  if (m.validation_loss) scalars.emplace_back("validation_loss", *m.validation_loss);
  for (const TaskNumber& n : m.validation_numbers) scalars.emplace_back(n.name, n.value);
  return scalars;
}

}  // namespace

absl::Status Reporter::Start(int64_t first_step, int64_t first_sample) {
  for (int64_t b = 0; b < run_.task->bucket_count(); ++b) {
    flops_per_step_.push_back(ModelFlops(run_.plan->training_of(b)) * static_cast<double>(run_.derived.micro_batches));
  }
  const DType type = ComputeType(run_.config);
  double peak = run_.gpu == nullptr ? MeasureMatrixPeak(run_.kernels(), type, run_.machine.threads)
                                    : MeasureMatrixPeak(run_.kernels(), type, *run_.gpu);
  std::vector<double> peaks(static_cast<size_t>(run_.communicator.size()));
  RETURN_IF_ERROR(run_.control->AllGather(std::as_writable_bytes(std::span(peaks)), std::as_bytes(std::span(&peak, 1)),
                                          {"matrix peak", -1}));
  for (double p : peaks) matrix_peak_ += p;
  absl::Status opened;
  if (run_.rank() == 0) {
    absl::StatusOr<MetricsFile> file = MetricsFile::Open(run_.config.output().directory(), first_step);
    opened = file.status();
    if (file.ok()) file_.emplace(*std::move(file));
  }
  RETURN_IF_ERROR(ShareStatus(opened, {"opening the metrics"}, *run_.control));
  if (file_) {
    run_.Print(file_->TakeNote());
    Warn(OpenReport(first_step), &warned_of_report_);
    OpenLogs(first_step, first_sample);
  }
  PrintStart();
  return absl::OkStatus();
}

std::string Reporter::ModelText() const {
  return absl::StrCat(FormatCount(static_cast<double>(run_.plan->training.table->ParameterCount())), " parameters, ",
                      run_.task->Describe());
}

std::string Reporter::LayoutText() const {
  const TrainConfig& config = run_.config;
  const int64_t recomputed = run_.plan->recomputed_blocks;
  return absl::StrCat(
      Counted(run_.communicator.size(), "rank"), " x ", Counted(run_.derived.threads_per_rank, "thread"),
      ", ZeRO stage ", config.sharding().zero_stage(), ", ",
      Counted(config.batch().global_batch_sequences(), "sequence"), " of ", Counted(SequenceTokens(config), "token"),
      " a step in ", Counted(run_.derived.accumulation_steps, "micro-batch", "es"), " per rank, ",
      ComputeType(config) == DType::kBFloat16 ? "BF16 with FP32 master weights" : "FP32",
      GradientType(config) == DType::kBFloat16 ? ", BF16 gradients" : "",
      recomputed > 0 ? absl::StrCat(", ", recomputed, " blocks recomputed") : "",
      config.optimizer().update() == OptimizerConfig::LOCK_FREE
          ? absl::StrCat(", lock-free update, at most ", config.optimizer().lock_free().max_staleness(), " steps stale")
          : "");
}

void Reporter::PrintStart() const {
  if (!run_.prints()) return;
  run_.Print("model: " + ModelText());
  run_.Print("run: " + LayoutText());
  run_.Print(MemoryTable(run_.plan->training_plan));
  run_.Print(absl::StrCat("matrix peak measured: ", FormatCount(matrix_peak_), "FLOP/s over all ranks"));
}

absl::Status Reporter::OpenReport(int64_t first_step) {
  const OutputConfig& output = run_.config.output();
  first_step_ = first_step;
  // Only a run with experts starts such a file, but one that an older run left must not be taken for this run's.
  ASSIGN_OR_RETURN(const bool has_experts, PathExists(absl::StrCat(output.directory(), "/", kExpertsFile)));
  if (has_experts) {
    ASSIGN_OR_RETURN(MetricsFile experts,
                     MetricsFile::Open(output.directory(), first_step, kExpertsFile, MetricsFile::Lines::kOfSomeSteps));
    experts_.emplace(std::move(experts));
  }
  const RunSheet sheet{.model = ModelText(),
                       .layout = LayoutText(),
                       .steps = run_.config.steps(),
                       .memory = MemoryOverStep(run_.plan->training_plan)};
  sheet_ = ToJson(sheet);
  RETURN_IF_ERROR(WriteFile(output.directory() + "/run.json", sheet_));
  if (output.report_every_steps() == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(ReportWriter report, ReportWriter::Open(output.directory(), sheet, output.report_every_steps()));
  report_.emplace(std::move(report));
  return absl::OkStatus();
}

void Reporter::KeepSheet() {
  if (sheet_.empty()) return;
  const std::string& directory = run_.config.output().directory();
  const absl::StatusOr<bool> has_sheet = PathExists(directory + "/run.json");
  if (!has_sheet.ok() || *has_sheet) return;
  // If the directory is missing, the metrics report it.
  if (const absl::StatusOr<bool> has_home = PathExists(directory); !has_home.ok() || !*has_home) return;
  Warn(WriteFile(directory + "/run.json", sheet_), &warned_of_report_);
}

void Reporter::OpenLogs(int64_t first_step, int64_t first_sample) {
  const OutputConfig& output = run_.config.output();
  if (output.tensorboard()) {
    absl::StatusOr<EventFile> events = EventFile::Create(output.directory(), first_step);
    Warn(events.status(), &warned_of_events_);
    if (events.ok()) events_.emplace(*std::move(events));
  }
  if (output.mllog()) {
    absl::StatusOr<MlLog> log = MlLog::Open(output.directory());
    if (log.ok()) mllog_.emplace(*std::move(log));
    Warn(mllog_ ? mllog_->Start(run_.config, first_step, first_sample) : log.status(), &warned_of_mllog_);
  }
}

void Reporter::Warn(const absl::Status& status, bool* warned) const {
  if (!status.ok() && !*warned) run_.Print(absl::StrCat("warning: ", status.message(), "; training goes on"));
  *warned = *warned || !status.ok();
}

void Reporter::ReportStep(const StepMetrics& metrics, const std::string& line) {
  if (!metrics.expert_loads.empty()) {
    const std::string loads = ExpertLine(metrics.step, metrics.expert_loads);
    absl::Status written;
    if (!experts_) {
      absl::StatusOr<MetricsFile> opened = MetricsFile::Open(run_.config.output().directory(), first_step_,
                                                             kExpertsFile, MetricsFile::Lines::kOfSomeSteps);
      written = opened.status();
      if (opened.ok()) experts_.emplace(*std::move(opened));
    }
    if (experts_) written = experts_->AppendLine(loads);
    Warn(written, &warned_of_experts_);
    if (report_) report_->AddExpertLine(loads);
  }
  KeepSheet();
  if (events_) Warn(events_->Append(metrics.step, ScalarsOf(metrics)), &warned_of_events_);
  if (mllog_) Warn(mllog_->Step(metrics), &warned_of_mllog_);
  if (!report_) return;
  report_->AddLine(line);
  Warn(report_->WriteIfDue(metrics.step), &warned_of_report_);
}

void Reporter::SamplesChanged() {
  if (report_) report_->ReadSamples();
}

bool Reporter::IsLogged(int64_t step) const {
  const int64_t every = run_.config.output().log_every_steps();
  return every > 0 && ((step + 1) % every == 0 || step == 0);
}

std::array<double, kLaneCount> Reporter::TakeBusySeconds() {
  std::array<double, kLaneCount> seconds = run_.lanes->TakeBusySeconds(), of_updates = {};
  if (run_.updater() != nullptr) of_updates = run_.updater()->TakeBusySeconds();
  for (int lane = 0; lane < kLaneCount; ++lane) busy_seconds_[lane] += seconds[lane] += of_updates[lane];
  return seconds;
}

void Reporter::Report(StepMetrics metrics, bool print) {
  if (!file_) return;
  const double seconds = metrics.seconds;
  if (metrics.steps_computed > 0) steps_per_second_ = metrics.steps_computed / seconds;
  const double share = run_.task->BucketShare(metrics.bucket);
  const double flops_per_second = flops_per_step_[static_cast<size_t>(metrics.bucket)] * steps_per_second_;
  metrics.tokens_per_second = static_cast<double>(run_.derived.step_tokens) * share * steps_per_second_;
  metrics.peak_fraction = matrix_peak_ > 0 ? flops_per_second / matrix_peak_ : 0;
  metrics.tflops = flops_per_second * 1e-12;
  metrics.tier_bytes = run_.plan->training_plan.arena_bytes;
  mean_seconds_ = mean_seconds_ == 0 ? seconds : 0.95 * mean_seconds_ + 0.05 * seconds;
  const bool was_behind = file_->behind();
  const std::string line = ToJson(metrics);
  if (const absl::Status written = file_->AppendLine(line); !written.ok() && !was_behind) {
    run_.Print(absl::StrCat("warning: ", written.message(),
                            "; training goes on, and its lines are kept until they can be written"));
  }
  run_.Print(file_->TakeNote());
  ReportStep(metrics, line);
  if (print || IsLogged(metrics.step)) run_.Print(ProgressLine(metrics, {run_.config.steps(), mean_seconds_}));
}

void Reporter::Flush() {
  if (!file_) return;
  if (const absl::Status durable = file_->Flush(); !durable.ok()) {
    run_.Print(absl::StrCat("warning: ", durable.message()));
  }
  run_.Print(file_->TakeNote());
}

void Reporter::PrintLanes(double seconds) {
  TakeBusySeconds();
  std::string text = absl::StrFormat("%s; lanes of rank 0 busy:", FormatSeconds(seconds));
  for (int lane = 0; lane < kLaneCount; ++lane) {
    absl::StrAppend(&text, absl::StrFormat("%s %s %.0f%%", lane == 0 ? "" : ",", Name(static_cast<Lane>(lane)),
                                           seconds > 0 ? 100 * busy_seconds_[lane] / seconds : 0));
  }
  run_.Print(text);
}

void Reporter::Fail(const absl::Status& error, int64_t steps_done) {
  if (mllog_) Warn(mllog_->Finish(steps_done, "aborted"), &warned_of_mllog_);
  if (report_) Warn(report_->Finish(absl::StrCat("ended with an error: ", error.message())), &warned_of_report_);
}

absl::Status Reporter::Finish(double seconds, bool stopped, int64_t steps_done) {
  PrintLanes(seconds);
  KeepSheet();
  if (mllog_) Warn(mllog_->Finish(steps_done, stopped ? "aborted" : "success"), &warned_of_mllog_);
  if (report_) {
    Warn(report_->Finish(stopped ? "stopped as asked; --resume continues" : ""), &warned_of_report_);
  }
  if (!file_) return absl::OkStatus();
  const absl::Status flushed = file_->Flush();
  run_.Print(file_->TakeNote());
  if (flushed.ok()) return absl::OkStatus();
  if (file_->behind()) {
    return absl::Status(flushed.code(), absl::StrCat(file_->path(), " lacks lines of the run: ", flushed.message()));
  }
  run_.Print(absl::StrCat("warning: ", flushed.message()));
  return absl::OkStatus();
}

}  // namespace angel_ptm
