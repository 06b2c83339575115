// What a run reports while it trains: progress lines for people; metrics.jsonl; report.html with its inputs (run.json,
// experts.jsonl); TensorBoard's and MLPerf's files on request. Only rank 0 reports. Of these files only metrics.jsonl
// is the run's history: a failure of any other is just a warning.
#ifndef ANGEL_PTM_TRAIN_REPORTER_H_
#define ANGEL_PTM_TRAIN_REPORTER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/metrics_file.h"
#include "angel_ptm/train/report/event_file.h"
#include "angel_ptm/train/report/mllog.h"
#include "angel_ptm/train/report/report_writer.h"
#include "angel_ptm/train/run.h"

namespace angel_ptm {

class Reporter {
 public:
  // `run` must be set up before anything is reported.
  explicit Reporter(Run& run) : run_(run) {}

  // Collective: measures the machine, opens the metrics, and prints what will be trained.
  absl::Status Start(int64_t first_step, int64_t first_sample);

  // Whether the step gets a progress line by its number alone.
  bool IsLogged(int64_t step) const;
  // Reports one step. `metrics` lacks what follows from its seconds. `print`: print a progress line even if not
  // IsLogged.
  void Report(StepMetrics metrics, bool print);
  // Call after samples were written to <output>/samples.
  void SamplesChanged();
  // Busy seconds of this rank's lanes since the previous call.
  std::array<double, kLaneCount> TakeBusySeconds();

  // Makes the metrics durable before a checkpoint. A checkpoint survives a crash of the machine, and no resumed run
  // repeats its steps, so the lines of those steps must survive, too.
  void Flush();

  // The run ended after `seconds`, on request if `stopped`. Returns an error if lines of its metrics are lost.
  absl::Status Finish(double seconds, bool stopped, int64_t steps_done);
  // The run ended with an error.
  void Fail(const absl::Status& error, int64_t steps_done);

 private:
  void PrintStart() const;
  // "22.6 M parameters, ..." and "2 ranks x 1 threads, ...".
  std::string ModelText() const;
  std::string LayoutText() const;
  absl::Status OpenReport(int64_t first_step);
  // Writes run.json if it is missing, for example because the output directory was removed and a checkpoint made it
  // again.
  void KeepSheet();
  void OpenLogs(int64_t first_step, int64_t first_sample);
  void ReportStep(const StepMetrics& metrics, const std::string& line);
  // Prints the first error only.
  void Warn(const absl::Status& status, bool* warned) const;
  // Where this rank's time went: a busy comm lane beside an idle compute lane suggests another stage or more prefetch.
  void PrintLanes(double seconds);

  Run& run_;
  int64_t first_step_ = 0;
  std::optional<MetricsFile> file_, experts_;
  std::string sheet_;  // text of run.json; empty on ranks that do not write it
  std::optional<ReportWriter> report_;
  std::optional<EventFile> events_;
  std::optional<MlLog> mllog_;
  bool warned_of_experts_ = false, warned_of_report_ = false, warned_of_events_ = false, warned_of_mllog_ = false;
  double matrix_peak_ = 0;                            // FLOP/s, all ranks
  std::vector<double> flops_per_step_;                // all ranks, by bucket
  double steps_per_second_ = 0;                       // from the last step that computed something
  double mean_seconds_ = 0;                           // per step, exponential moving average
  std::array<double, kLaneCount> busy_seconds_ = {};  // so far
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORTER_H_
