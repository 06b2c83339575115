// MLPerf's log of a run, <output>/mllog.txt: a line for each event, ":::MLLOG " and a JSON object with namespace,
// time_ms, event_type, key, value and metadata.
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

// One line with its newline. metadata: what the value is about; the place in our sources is added.
std::string MlLine(MlEvent event, std::string_view key, const nlohmann::ordered_json& value,
                   const nlohmann::ordered_json& metadata, int64_t time_ms,
                   std::source_location where = std::source_location::current());

// Errors are those of AppendFile.
class MlLog {
 public:
  // Goes on behind an earlier run's lines.
  static absl::StatusOr<MlLog> Open(const std::string& directory);

  // The run's hyperparameters, then run_start and the first block, which begins at `first_step`.
  absl::Status Start(const TrainConfig& config, int64_t first_step);
  // Of an evaluated step eval_accuracy, the validation loss, and the block's end; the next block begins behind it.
  absl::Status Step(const StepMetrics& metrics);
  // block_stop and run_stop; `status`: "success" or "aborted".
  absl::Status Finish(int64_t steps_done, std::string_view status);

 private:
  explicit MlLog(AppendFile file) : file_(std::move(file)) {}
  absl::Status Write(MlEvent event, std::string_view key, const nlohmann::ordered_json& value,
                     const nlohmann::ordered_json& metadata,
                     std::source_location where = std::source_location::current());

  AppendFile file_;
  int64_t samples_per_step_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_MLLOG_H_
