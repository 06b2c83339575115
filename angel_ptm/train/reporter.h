// What a run tells while it trains: progress lines for people and metrics.jsonl. Only rank 0 tells anything.
#ifndef ANGEL_PTM_TRAIN_REPORTER_H_
#define ANGEL_PTM_TRAIN_REPORTER_H_

#include <optional>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/metrics_file.h"
#include "angel_ptm/train/run.h"

namespace angel_ptm {

class Reporter {
 public:
  // `run` is set up before anything is told.
  explicit Reporter(Run& run) : run_(run) {}

  // Collective: measures the machine, opens the metrics, and prints what is going to be trained.
  absl::Status Start(int64_t first_step);

  // One step's metrics, without its rates; `seconds` it took. `print`: in any case, else every so many steps.
  void Report(StepMetrics metrics, double seconds, bool print);

  // A checkpoint outlives a crash of the machine: so must the lines of its steps, which no resumed run repeats.
  void Flush();

  // The run is over after `seconds`. An error if lines of it are lost.
  absl::Status Finish(double seconds);

 private:
  void PrintStart() const;
  // Where this rank's time went: a busy comm lane beside an idle compute lane asks for another stage or more prefetch.
  void PrintLanes(double seconds);

  Run& run_;
  std::optional<MetricsFile> file_;
  double matrix_peak_ = 0;     // FLOP/s of all ranks
  double flops_per_step_ = 0;  // of all ranks
  double mean_seconds_ = 0;    // per step, exponentially averaged
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORTER_H_
