// What a run tells while it trains: progress lines for people and metrics.jsonl. Only rank 0 tells anything.
#ifndef ANGEL_PTM_TRAIN_REPORTER_H_
#define ANGEL_PTM_TRAIN_REPORTER_H_

#include <array>
#include <cstdint>
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

  // Whether the step has a progress line in any case.
  bool IsLogged(int64_t step) const;
  // One step's metrics, without what follows from its seconds. `print`: in any case, else if it is logged.
  void Report(StepMetrics metrics, bool print);
  // Busy seconds of this rank's lanes since the last call.
  std::array<double, kLaneCount> TakeBusySeconds();

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
  double matrix_peak_ = 0;                            // FLOP/s of all ranks
  double flops_per_step_ = 0;                         // of all ranks
  double mean_seconds_ = 0;                           // per step, exponentially averaged
  std::array<double, kLaneCount> busy_seconds_ = {};  // so far
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORTER_H_
