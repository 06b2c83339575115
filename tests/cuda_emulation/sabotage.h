// Faults planted into the project's own kernels: an instruction is left out or changed wherever the kernels use it.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_

#include <functional>
#include <vector>

#include "tests/cuda_emulation/emulator.h"

namespace angel_ptm::emulated {

enum class Sabotage {
  kNone,
  kNoMbarrierWait,
  kOtherParity,   // waits for mbarriers take the other parity
  kTooManyBytes,  // mbarriers expect too many bytes
  kTooFewBytes,
  kNoRelease,  // no arrivals at mbarriers that expect no bytes
  kNoInitFence,
  kNoProxyFence,
  kNoWgmmaFence,
  kNoWgmmaWait,
  kNoNamedBarrier,
  kNoCopyWait,  // for cp.async
};

// Like Emulate, with the fault in every instruction that it concerns.
std::vector<Finding> EmulateSabotaged(Sabotage sabotage, const Schedule& schedule,
                                      const std::function<void()>& launches);

// Whether the current emulation has this fault.
bool Planted(Sabotage sabotage);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_
