// <output>/report.html while the run goes on: what is read from its directory once, then kept up step by step.
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
  // Writes no page if `every_steps` is 0. Errors: those of ReadRun.
  static absl::StatusOr<ReportWriter> Open(const std::string& directory, const RunSheet& sheet, int64_t every_steps);

  // What was appended to metrics.jsonl and experts.jsonl.
  void AddLine(std::string_view line) { run_.history.AddLine(line); }
  void AddExpertLine(std::string_view line) { run_.experts.AddLine(line); }
  // Reads samples again: there are others.
  void ReadSamples() { angel_ptm::ReadSamples(&run_); }

  // Writes the page if `step` is due. Writing takes at most about a hundredth of the time: where a page takes long, it
  // waits for a later step. An error is the file's; the next due step tries again.
  absl::Status WriteIfDue(int64_t step);
  // The last page. `end`: empty for a run that did what it was to do, else how it ended.
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
