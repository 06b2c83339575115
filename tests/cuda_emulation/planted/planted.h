// Small kernels with a planted fault each, for the test that all faults are found. Variant 0 of every kernel is
// correct.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_PLANTED_PLANTED_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_PLANTED_PLANTED_H_

#include <optional>
#include <vector>

#include "tests/cuda_emulation/emulator.h"
#include "tests/cuda_emulation/findings.h"

namespace angel_ptm::emulated {

struct Outcome {
  std::vector<Finding> findings;
  bool values_right = false;
};

struct PlantedFault {
  const char* name;
  Outcome (*run)(const Schedule& schedule, int variant);
  int variant;
  std::optional<Fault> fault;     // absent: only wrong values show it
  std::optional<Fault> or_fault;  // what it causes in other schedules
};

const std::vector<PlantedFault>& BlockFaults();
const std::vector<PlantedFault>& PipelineFaults();
const std::vector<PlantedFault>& HopperFaults();
const std::vector<PlantedFault>& ClusterFaults();

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_PLANTED_PLANTED_H_
