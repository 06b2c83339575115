// What a run tells: one JSON object a step in metrics.jsonl, and progress lines for people.
#ifndef ANGEL_PTM_TRAIN_METRICS_H_
#define ANGEL_PTM_TRAIN_METRICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0;       // mean nats per target token over the global batch, without the router's auxiliary loss
  double grad_norm = 0;  // of the mean gradient, before clipping
  double learning_rate = 0;
  double tokens_per_second = 0;  // all ranks
  double peak_fraction = 0;      // model FLOP/s over the measured matrix peak of all ranks
  bool skipped = false;          // non-finite: nothing was updated
  // Fullest expert over the mean, worst layer; 1 is even. Of the step's last micro-batch of rank 0. MoE only.
  std::optional<double> expert_balance;
  std::optional<double> validation_loss, validation_bits_per_byte;
};

// Numbers are printed with the fewest digits that read back as the same double: equal bits print equal.
std::string ToJson(const StepMetrics& metrics);

struct ProgressContext {
  int64_t total_steps = 0;
  double seconds_per_step = 0;
};
std::string ProgressLine(const StepMetrics& metrics, const ProgressContext& context);

// Appends to <directory>/metrics.jsonl. A resumed run first drops the lines of steps it is going to repeat. Errors are
// those of angel_ptm/base/file.h.
class MetricsFile {
 public:
  static absl::StatusOr<MetricsFile> Open(const std::string& directory, int64_t first_step);
  MetricsFile(MetricsFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_), path_(std::move(other.path_)) {}
  MetricsFile& operator=(MetricsFile&&) = delete;
  ~MetricsFile();

  // The file always ends in a whole line. A line that cannot be written (disk full) is an error, but it is kept and
  // goes out with the next one that can.
  absl::Status Append(const StepMetrics& metrics);
  // Writes the lines that are kept, and puts all lines on disk.
  absl::Status Flush();
  // Whether lines are kept because they could not be written.
  bool behind() const { return !unwritten_.empty(); }
  const std::string& path() const { return path_; }

 private:
  MetricsFile(int fd, int64_t bytes, std::string path) : fd_(fd), bytes_(bytes), path_(std::move(path)) {}
  absl::Status WriteKept();

  int fd_;
  int64_t bytes_;  // of whole lines in the file
  std::string path_;
  std::string unwritten_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_H_
