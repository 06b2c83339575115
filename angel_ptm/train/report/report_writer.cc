#include "angel_ptm/train/report/report_writer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "angel_ptm/base/file.h"
#include "angel_ptm/train/report/report_page.h"

namespace angel_ptm {
namespace {

constexpr double kShareOfTimeMax = 0.01;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

absl::StatusOr<ReportWriter> ReportWriter::Open(const std::string& directory, const RunSheet& sheet,
                                                int64_t every_steps) {
  ASSIGN_OR_RETURN(RunReport run, ReadRun(directory));
  run.sheet = sheet;
  return ReportWriter(every_steps, std::move(run));
}

ReportWriter::ReportWriter(int64_t every_steps, RunReport run)
    : every_steps_(every_steps), run_(std::move(run)), path_(run_.name + "/report.html"), written_at_(Seconds()) {}

absl::Status ReportWriter::WriteIfDue(int64_t step) {
  if (every_steps_ == 0 || (step + 1) % every_steps_ != 0) return absl::OkStatus();
  const double since = Seconds() - written_at_;
  if (since * kShareOfTimeMax < took_) return absl::OkStatus();
  // The next page is expected after as long as this one took since the previous page, so reload then.
  return Write(std::clamp<int64_t>(std::llround(since), 5, 600));
}

absl::Status ReportWriter::Finish(const std::string& end) {
  if (every_steps_ == 0) return absl::OkStatus();
  run_.now = end;
  return Write(/*reload_seconds=*/0);
}

absl::Status ReportWriter::Write(int64_t reload_seconds) {
  const double begin = Seconds();
  const absl::Status written =
      WriteFile(path_, ReportPage({run_}, {.written = UtcNow(), .reload_seconds = reload_seconds}));
  written_at_ = Seconds();
  took_ = written_at_ - begin;
  return written;
}

}  // namespace angel_ptm
