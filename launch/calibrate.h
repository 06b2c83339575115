// Measures how long this machine takes for the steps of plans. Plans small models and plays them with the executor of
// runs, one step at a time, so that nothing shares the machine with the step that is timed.
#ifndef ANGEL_PTM_LAUNCH_CALIBRATE_H_
#define ANGEL_PTM_LAUNCH_CALIBRATE_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/config/cluster.pb.h"
#include "comm/communicator.h"
#include "kernels/kernels.h"

namespace angel_ptm {

struct CalibrationOptions {
  int threads = 1;        // per rank
  std::string directory;  // for page files; empty: does not measure files
  bool allow_buffered = false;
  double seconds = 30;  // of playing, approximately
};

// (work, seconds) of steps, by the name and type that WorkOf in cost.h gives them.
using StepSamples = std::map<std::pair<std::string, DType>, std::vector<std::pair<double, double>>>;

// Collective over `ranks`, which play as the ranks of a run do. Plays dense models and mixtures of experts of several
// sizes in `type`, with their state on the device, on the host and, if there is a directory, in a file. Adds rank 0's
// times to its *samples, and to its *launch_samples the time that lanes add to each step. Errors are the same on all
// ranks: too little memory (about 300 MiB per rank is needed), or a directory that cannot be used.
absl::Status Calibrate(const CalibrationOptions& options, const KernelTable& kernels, DType type, Communicator& ranks,
                       StepSamples* samples, std::vector<double>* launch_samples);

// Adds the samples as rates of a cluster file. Samples of equal work become one point, their median. A point may not
// take less time than one of less work.
void AddKernelRates(const StepSamples& samples, ClusterDevice* device);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_CALIBRATE_H_
