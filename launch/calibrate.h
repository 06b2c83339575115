// How long this machine takes for the steps of plans: small models are planned and played by the executor that runs
// use, one step after the other so that nothing shares the machine with what is timed.
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
  int threads = 1;        // of each rank
  std::string directory;  // for page files; empty: files are not measured
  bool allow_buffered = false;
  double seconds = 30;  // of playing, about
};

// Seconds of steps by what cost.h's WorkOf calls them and how much work they are.
using StepSamples = std::map<std::pair<std::string, DType>, std::vector<std::pair<double, double>>>;

// All ranks of a communicator call it together and play as the ranks of a run do: plays dense models and mixtures of
// experts of several sizes in `type`, with their state on the device, on the host and, with a directory, in a file.
// Adds rank 0's to its *samples, and to its *launch_samples what lanes add to each step. Errors, the same on all ranks:
// a machine without the memory (about 300 MiB a rank), a directory that cannot be used.
absl::Status Calibrate(const CalibrationOptions& options, const KernelTable& kernels, DType type, Communicator& ranks,
                       StepSamples* samples, std::vector<double>* launch_samples);

// Rows of a cluster file: samples of equal work are one point, their median; a point may not take less time than one
// of less work.
void AddKernelRates(const StepSamples& samples, ClusterDevice* device);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_CALIBRATE_H_
