// <output>/metrics.jsonl: the history of a run, which must survive what is done to the file while it is written.
// experts.jsonl is one, too.
#ifndef ANGEL_PTM_TRAIN_METRICS_FILE_H_
#define ANGEL_PTM_TRAIN_METRICS_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/train/metrics.h"

namespace angel_ptm {

// Appends to <directory>/<name>, one JSON object with a "step" a line. Errors are those of angel_ptm/base/file.h.
class MetricsFile {
 public:
  enum class Lines { kOfEveryStep, kOfSomeSteps };

  // A run that begins at step 0 keeps the lines of an earlier one as <name>.<n>; a resumed run drops the lines
  // of the steps it is going to repeat. A history of any length is read in bounded memory. Only with kOfEveryStep is a
  // step without a line worth a note.
  static absl::StatusOr<MetricsFile> Open(const std::string& directory, int64_t first_step,
                                          const std::string& name = "metrics.jsonl", Lines lines = Lines::kOfEveryStep);
  MetricsFile(MetricsFile&& other) noexcept;
  MetricsFile& operator=(MetricsFile&&) = delete;
  ~MetricsFile();

  // The file always ends in a whole line. A line that cannot be written (disk full, the file's name taken by a folder)
  // is an error, but it is kept and goes out with the next one that can; of more than kUnwrittenBytesMax the older half
  // is dropped. A file that was removed, moved, replaced or cut since the last call is written again first.
  absl::Status Append(const StepMetrics& metrics) { return AppendLine(ToJson(metrics)); }
  absl::Status AppendLine(const std::string& line);
  static constexpr size_t kUnwrittenBytesMax = size_t{16} << 20;
  // Writes the lines that are kept, and puts all lines on disk under the file's name.
  absl::Status Flush();
  // Whether the file lacks lines because they could not be written.
  bool behind() const { return !unwritten_.empty() || lost_its_name_; }
  const std::string& path() const { return path_; }

  // Empty, or what a user should know of the history: what Open found, that the file was written again. Once.
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
  int64_t bytes_;      // of whole lines in the file
  std::string known_;  // the file's bytes [known_begin_, bytes_): the newest lines, for a file whose content is lost
  int64_t known_begin_;
  std::string path_;
  std::string unwritten_;
  bool lost_its_name_ = false, lost_lines_ = false;
  std::string note_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_METRICS_FILE_H_
