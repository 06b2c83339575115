// <output>/report.html while the run goes on: reads the run's directory once, then follows it step by step.
#ifndef ANGEL_PTM_TRAIN_REPORT_REPORT_WRITER_H_
#define ANGEL_PTM_TRAIN_REPORT_REPORT_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/report/run_report.h"

namespace angel_ptm {

class ReportWriter {
 public:
  // If `every_steps` is 0, writes no page. Errors: those of ReadRun.
  static absl::StatusOr<ReportWriter> Open(const std::string& directory, const RunSheet& sheet, int64_t every_steps);

  // Adds a line that was appended to metrics.jsonl or experts.jsonl.
  void AddLine(std::string_view line) { run_.history.AddLine(line); }
  void AddExpertLine(std::string_view line) { run_.experts.AddLine(line); }
  // Reads the samples again, after they changed.
  void ReadSamples() { angel_ptm::ReadSamples(&run_); }

  // Writes the page if `step` is due. Writing takes at most about a hundredth of the run's time: if a page takes long,
  // it is left to a later step. Errors are those of the file; the next due step tries again.
  absl::Status WriteIfDue(int64_t step);
  // Writes the last page. `end`: how the run ended; empty if it completed.
  absl::Status Finish(const std::string& end);

 private:
  ReportWriter(int64_t every_steps, RunReport run);
  absl::Status Write(int64_t reload_seconds);

  int64_t every_steps_;
  RunReport run_;
  std::string path_;
  double written_at_, took_ = 0;  // seconds
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_REPORT_WRITER_H_
