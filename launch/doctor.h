// angel-ptm doctor: what of machines helps or hinders, and their rates as a cluster file.
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
  double seconds = 50;  // of measuring, about
  std::string isa;      // of the CPU kernels; empty: the best
  std::string output;   // the cluster file; empty: none
  int cores = 1;        // that the ranks of this machine may use together
};

// All ranks call it together, be they threads of one process or processes of mpirun, and measure together. world: all
// of them; node: those of this machine in the world's order, or the world itself if there is one machine. Rank 0 prints
// to `out` and writes the file: its own machine's numbers, and what its ranks and the network reach; ranks and machines
// that are slower than most are named. Errors, the same on all ranks: a machine that no run starts on, machines with
// different numbers of ranks, what cannot be measured or written.
absl::Status ExamineMachines(const DoctorRequest& request, Communicator& world, Communicator& node, std::FILE* out);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_DOCTOR_H_
