#include "angel_ptm/train/report/mllog.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/config/validate.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

using Json = nlohmann::ordered_json;

const char* Name(MlEvent event) {
  switch (event) {
    case MlEvent::kIntervalStart:
      return "INTERVAL_START";
    case MlEvent::kIntervalEnd:
      return "INTERVAL_END";
    case MlEvent::kPointInTime:
      return "POINT_IN_TIME";
  }
  return "";
}

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::string MlLine(MlEvent event, std::string_view key, const Json& value, const Json& metadata, int64_t time_ms,
                   std::source_location where) {
  Json about = metadata;
  about["file"] = OwnName(where.file_name());
  about["lineno"] = where.line();
  const Json line = {{"namespace", ""}, {"time_ms", time_ms}, {"event_type", Name(event)},
                     {"key", key},      {"value", value},     {"metadata", about}};
  return absl::StrCat(":::MLLOG ", line.dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
}

absl::StatusOr<MlLog> MlLog::Open(const std::string& directory) {
  ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(directory + "/mllog.txt"));
  return MlLog(std::move(file));
}

absl::Status MlLog::Write(MlEvent event, std::string_view key, const Json& value, const Json& metadata,
                          std::source_location where) {
  return file_.Append(MlLine(event, key, value, metadata, NowMs(), where));
}

absl::Status MlLog::Start(const TrainConfig& config, int64_t first_step, int64_t first_sample) {
  const AdamwConfig& adamw = config.optimizer().adamw();
  first_step_ = first_step;
  first_sample_ = first_sample;
  samples_per_step_ = config.batch().global_batch_sequences();
  const std::pair<const char*, Json> hyperparameters[] = {
      {"seed", config.seed()},
      {"global_batch_size", samples_per_step_},
      {"max_sequence_length", SequenceTokens(config)},
      {"max_steps", config.steps()},
      {"opt_name", "adamw"},
      {"opt_base_learning_rate", adamw.learning_rate()},
      {"opt_adamw_beta_1", adamw.beta1()},
      {"opt_adamw_beta_2", adamw.beta2()},
      {"opt_adamw_epsilon", adamw.epsilon()},
      {"opt_adamw_weight_decay", adamw.weight_decay()},
      {"opt_gradient_clip_norm", config.optimizer().gradient_clip_norm()},
      {"opt_learning_rate_warmup_steps", config.optimizer().schedule().warmup_steps()}};
  for (const auto& [key, value] : hyperparameters) {
    RETURN_IF_ERROR(Write(MlEvent::kPointInTime, key, value, Json::object()));
  }
  RETURN_IF_ERROR(Write(MlEvent::kIntervalStart, "run_start", nullptr, Json::object()));
  return Write(MlEvent::kIntervalStart, "block_start", nullptr, {{"samples_count", first_sample}});
}

absl::Status MlLog::Step(const StepMetrics& metrics) {
  if (!metrics.validation_loss) return absl::OkStatus();
  const Json about = {{"samples_count", SamplesBefore(metrics.step + 1)}};
  RETURN_IF_ERROR(Write(MlEvent::kIntervalEnd, "block_stop", nullptr, about));
  RETURN_IF_ERROR(Write(MlEvent::kPointInTime, "eval_accuracy", *metrics.validation_loss, about));
  return Write(MlEvent::kIntervalStart, "block_start", nullptr, about);
}

absl::Status MlLog::Finish(int64_t steps_done, std::string_view status) {
  const Json samples = SamplesBefore(steps_done);
  RETURN_IF_ERROR(Write(MlEvent::kIntervalEnd, "block_stop", nullptr, {{"samples_count", samples}}));
  return Write(MlEvent::kIntervalEnd, "run_stop", nullptr, {{"samples_count", samples}, {"status", status}});
}

}  // namespace angel_ptm
