// MLPerf's log of a run, <output>/mllog.txt: per event a line of ":::MLLOG " and a JSON object with namespace, time_ms,
// event_type, key, value and metadata.
#ifndef ANGEL_PTM_TRAIN_REPORT_MLLOG_H_
#define ANGEL_PTM_TRAIN_REPORT_MLLOG_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/report/append_file.h"

namespace angel_ptm {

enum class MlEvent : uint8_t { kIntervalStart, kIntervalEnd, kPointInTime };

// Returns one line with its newline. `metadata` says what the value is about; `where`, our source location, is added to
// it.
std::string MlLine(MlEvent event, std::string_view key, const nlohmann::ordered_json& value,
                   const nlohmann::ordered_json& metadata, int64_t time_ms,
                   std::source_location where = std::source_location::current());

// Errors are those of AppendFile.
class MlLog {
 public:
  // Appends to the lines of an earlier run.
  static absl::StatusOr<MlLog> Open(const std::string& directory);

  // Writes the run's hyperparameters, run_start, and the start of the first block, which begins at `first_step`, whose
  // first sample is `first_sample`: a resumed run may have taken steps with another batch before.
  absl::Status Start(const TrainConfig& config, int64_t first_step, int64_t first_sample);
  // For an evaluated step, writes eval_accuracy (the validation loss) and the end of the block, and begins the next
  // block.
  absl::Status Step(const StepMetrics& metrics);
  // Writes block_stop and run_stop. `status`: "success" or "aborted".
  absl::Status Finish(int64_t steps_done, std::string_view status);

 private:
  explicit MlLog(AppendFile file) : file_(std::move(file)) {}
  absl::Status Write(MlEvent event, std::string_view key, const nlohmann::ordered_json& value,
                     const nlohmann::ordered_json& metadata,
                     std::source_location where = std::source_location::current());

  // Samples before `step`.
  int64_t SamplesBefore(int64_t step) const { return first_sample_ + (step - first_step_) * samples_per_step_; }

  AppendFile file_;
  int64_t first_step_ = 0, first_sample_ = 0, samples_per_step_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_MLLOG_H_
