#include "angel_ptm/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

// JSON has no infinities and NaNs; those become strings.
std::string Number(double value) {
  return std::isfinite(value) ? FormatExact(value) : absl::StrCat("\"", FormatExact(value), "\"");
}

// The step of a metrics line, or -1 if the line is not whole (a killed run's last one).
int64_t StepOf(const std::string& line) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer()) return -1;
  return object["step"].get<int64_t>();
}

// Leaves <path> with the whole lines of earlier steps, on disk. What cannot be read is an error, not an empty history.
absl::Status KeepBefore(const std::string& path, int64_t first_step) {
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) return WriteFile(path, "");
  ASSIGN_OR_RETURN(const std::string content, ReadFile(path, std::numeric_limits<int64_t>::max()));
  std::string kept, line;
  std::istringstream lines(content);
  while (std::getline(lines, line)) {
    const int64_t step = StepOf(line);
    if (step >= 0 && step < first_step) absl::StrAppend(&kept, line, "\n");
  }
  return kept == content ? absl::OkStatus() : WriteFile(path, kept);
}

}  // namespace

std::string ToJson(const StepMetrics& m) {
  std::string json = absl::StrCat(
      "{\"step\": ", m.step, ", \"loss\": ", Number(m.loss), ", \"grad_norm\": ", Number(m.grad_norm),
      ", \"learning_rate\": ", Number(m.learning_rate), ", \"tokens_per_second\": ", Number(m.tokens_per_second),
      ", \"peak_fraction\": ", Number(m.peak_fraction));
  if (m.skipped) absl::StrAppend(&json, ", \"skipped\": true");
  if (m.expert_balance) absl::StrAppend(&json, ", \"expert_balance\": ", Number(*m.expert_balance));
  if (m.validation_loss) absl::StrAppend(&json, ", \"validation_loss\": ", Number(*m.validation_loss));
  if (m.validation_bits_per_byte) {
    absl::StrAppend(&json, ", \"validation_bits_per_byte\": ", Number(*m.validation_bits_per_byte));
  }
  return json + "}";
}

std::string ProgressLine(const StepMetrics& m, const ProgressContext& context) {
  std::string line = absl::StrFormat("step %d/%d  loss %.4f", m.step, context.total_steps, m.loss);
  if (m.validation_loss) {
    absl::StrAppend(&line, absl::StrFormat("  validation %.4f (%.3f bits/byte)", *m.validation_loss,
                                           m.validation_bits_per_byte.value_or(0)));
  }
  absl::StrAppend(&line, absl::StrFormat("  grad norm %.3f  lr %.2e  %s tokens/s  %.1f%% of peak", m.grad_norm,
                                         m.learning_rate, FormatCount(m.tokens_per_second), 100 * m.peak_fraction));
  if (m.expert_balance) absl::StrAppend(&line, absl::StrFormat("  balance %.2f", *m.expert_balance));
  const double left = static_cast<double>(context.total_steps - 1 - m.step) * context.seconds_per_step;
  absl::StrAppend(&line, "  ETA ", FormatSeconds(left));
  if (m.skipped) absl::StrAppend(&line, "  SKIPPED: non-finite");
  return line;
}

absl::StatusOr<MetricsFile> MetricsFile::Open(const std::string& directory, int64_t first_step) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string path = directory + "/metrics.jsonl";
  RETURN_IF_ERROR(KeepBefore(path, first_step));
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  const off_t bytes = lseek(fd, 0, SEEK_END);
  if (bytes >= 0) return MetricsFile(fd, bytes, path);
  const int why = errno;
  close(fd);
  return FileError("find the end of", path, why);
}

MetricsFile::~MetricsFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MetricsFile::Append(const StepMetrics& metrics) {
  absl::StrAppend(&unwritten_, ToJson(metrics), "\n");
  return WriteKept();
}

absl::Status MetricsFile::Flush() {
  RETURN_IF_ERROR(WriteKept());
  while (fdatasync(fd_) != 0) {
    if (errno != EINTR) return FileError("sync", path_, errno);
  }
  return absl::OkStatus();
}

absl::Status MetricsFile::WriteKept() {
  for (size_t done = 0; done < unwritten_.size();) {
    const ssize_t n =
        pwrite(fd_, unwritten_.data() + done, unwritten_.size() - done, bytes_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      // Half a line would spoil the file for its readers; if even this fails, the next line overwrites it.
      if (ftruncate(fd_, bytes_) != 0) errno = 0;
      return FileError("write", path_, why);
    }
    done += static_cast<size_t>(n);
  }
  bytes_ += static_cast<int64_t>(unwritten_.size());
  unwritten_.clear();
  return absl::OkStatus();
}

}  // namespace angel_ptm
