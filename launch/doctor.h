// angel-ptm doctor: checks what helps or hinders runs on machines, and measures their rates as a cluster file.
#ifndef ANGEL_PTM_LAUNCH_DOCTOR_H_
#define ANGEL_PTM_LAUNCH_DOCTOR_H_

#include <cstdio>
#include <string>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "launch/calibrate.h"

namespace angel_ptm {

struct DoctorRequest {
  CalibrationOptions calibration;
  double seconds = 50;  // of measuring, approximately
  std::string isa;      // level of the CPU kernels; empty: the best
  std::string output;   // path of the cluster file; empty: none
  int cores = 1;        // that the ranks of this machine may use together
};

// Collective over `world`, whose ranks may be threads of one process or processes of mpirun. `node` has the ranks of
// this machine in the world's order, or is the world if there is one machine. Rank 0 prints to `out` and writes the
// file: the numbers of its own machine, and what its ranks and the network reach. Ranks and machines slower than most
// are named. Errors are the same on all ranks: a machine on which no run can start; machines with different numbers of
// ranks; what cannot be measured or written.
absl::Status ExamineMachines(const DoctorRequest& request, Communicator& world, Communicator& node, std::FILE* out);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_DOCTOR_H_
