// <output>/metrics.jsonl, the history of a run. It must survive whatever happens to the file while it is written.
// experts.jsonl uses the same class.
#ifndef ANGEL_PTM_TRAIN_METRICS_FILE_H_
#define ANGEL_PTM_TRAIN_METRICS_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/train/metrics.h"

namespace angel_ptm {

// Appends to <directory>/<name>, one JSON object with a "step" per line. Errors are those of angel_ptm/base/file.h.
class MetricsFile {
 public:
  enum class Lines { kOfEveryStep, kOfSomeSteps };

  // A run that begins at step 0 keeps the lines of an earlier run as <name>.<n>. A resumed run drops the lines of the
  // steps that it will repeat. Reads a history of any length in bounded memory. Steps without a line are noted only
  // with kOfEveryStep.
  static absl::StatusOr<MetricsFile> Open(const std::string& directory, int64_t first_step,
                                          const std::string& name = "metrics.jsonl", Lines lines = Lines::kOfEveryStep);
  MetricsFile(MetricsFile&& other) noexcept;
  MetricsFile& operator=(MetricsFile&&) = delete;
  ~MetricsFile();

  // The file always ends in a whole line. Failing to write a line (disk full, the file's name taken by a folder) is an
  // error, but the line is kept and written with the next one that succeeds. If more than kUnwrittenBytesMax are kept,
  // the older half is dropped. If the file was removed, moved, replaced or cut since the last call, it is first written
  // again.
  absl::Status Append(const StepMetrics& metrics) { return AppendLine(ToJson(metrics)); }
  absl::Status AppendLine(const std::string& line);
  static constexpr size_t kUnwrittenBytesMax = size_t{16} << 20;
  // Writes the lines that are kept, and makes all lines durable under the file's name.
  absl::Status Flush();
  // Whether the file lacks lines because they could not be written.
  bool behind() const { return !unwritten_.empty() || lost_its_name_; }
  const std::string& path() const { return path_; }

  // Returns, once, what a user should know about the history (what Open found, that the file was written again), or "".
  std::string TakeNote() { return std::exchange(note_, ""); }

 private:
  MetricsFile(int fd, int64_t bytes, std::string path)
      : fd_(fd), bytes_(bytes), known_begin_(bytes), path_(std::move(path)) {}
  absl::Status WriteKept();
  absl::Status KeepItsName();
  absl::Status WriteAgain(const char* what_happened);
  // Whole lines only.
  absl::Status CopyKnown(AtomicFile& to, bool* complete) const;
  void Remember(const std::string& lines);

  int fd_;
  int64_t bytes_;      // whole lines in the file
  std::string known_;  // the newest lines, bytes [known_begin_, bytes_) of the file, to restore lost content
  int64_t known_begin_;
  std::string path_;
  std::string unwritten_;
  bool lost_its_name_ = false, lost_lines_ = false;
  std::string note_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_FILE_H_
