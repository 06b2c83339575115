// What a run tells while it trains: progress lines for people, metrics.jsonl, and report.html with what it needs
// (run.json, experts.jsonl); TensorBoard's and MLPerf's files if asked for. Only rank 0 tells anything. Of these only
// metrics.jsonl is a run's history: what goes wrong with the others is a warning.
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
  // `run` is set up before anything is told.
  explicit Reporter(Run& run) : run_(run) {}

  // Collective: measures the machine, opens the metrics, and prints what is going to be trained.
  absl::Status Start(int64_t first_step);

  // Whether the step has a progress line in any case.
  bool IsLogged(int64_t step) const;
  // One step's metrics, without what follows from its seconds. `print`: in any case, else if it is logged.
  void Report(StepMetrics metrics, bool print);
  // There are others in <output>/samples.
  void SamplesChanged();
  // Busy seconds of this rank's lanes since the last call.
  std::array<double, kLaneCount> TakeBusySeconds();

  // A checkpoint outlives a crash of the machine: so must the lines of its steps, which no resumed run repeats.
  void Flush();

  // The run is over after `seconds`, as asked if `stopped`. An error if lines of it are lost.
  absl::Status Finish(double seconds, bool stopped, int64_t steps_done);
  // The run ends with an error.
  void Fail(const absl::Status& error, int64_t steps_done);

 private:
  void PrintStart() const;
  // "22.6 M parameters, ..." and "2 ranks x 1 threads, ...".
  std::string ModelText() const;
  std::string LayoutText() const;
  absl::Status OpenReport(int64_t first_step);
  // Writes run.json if it is not there, as when the output directory was removed and a checkpoint has made it again.
  void KeepSheet();
  void OpenLogs(int64_t first_step);
  void ReportStep(const StepMetrics& metrics, const std::string& line);
  // Prints the first error.
  void Warn(const absl::Status& status, bool* warned) const;
  // Where this rank's time went: a busy comm lane beside an idle compute lane asks for another stage or more prefetch.
  void PrintLanes(double seconds);

  Run& run_;
  int64_t first_step_ = 0;
  std::optional<MetricsFile> file_, experts_;
  std::string sheet_;  // run.json's text, of who writes it
  std::optional<ReportWriter> report_;
  std::optional<EventFile> events_;
  std::optional<MlLog> mllog_;
  bool warned_of_experts_ = false, warned_of_report_ = false, warned_of_events_ = false, warned_of_mllog_ = false;
  double matrix_peak_ = 0;                            // FLOP/s of all ranks
  std::vector<double> flops_per_step_;                // of all ranks, by bucket
  double steps_per_second_ = 0;                       // by what was computed last
  double mean_seconds_ = 0;                           // per step, exponentially averaged
  std::array<double, kLaneCount> busy_seconds_ = {};  // so far
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORTER_H_
