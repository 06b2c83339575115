// Faults planted into the project's own kernels: an instruction left out or changed wherever they have it.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_

#include <functional>
#include <vector>

#include "tests/cuda_emulation/emulator.h"

namespace angel_ptm::emulated {

enum class Sabotage {
  kNone,
  kNoMbarrierWait,
  kOtherParity,   // of waits for mbarriers
  kTooManyBytes,  // expected by mbarriers
  kTooFewBytes,
  kNoRelease,  // arrivals at mbarriers that expect no bytes
  kNoInitFence,
  kNoProxyFence,
  kNoWgmmaFence,
  kNoWgmmaWait,
  kNoNamedBarrier,
  kNoCopyWait,  // for cp.async
};

// As Emulate, with a fault in every instruction that it is about.
std::vector<Finding> EmulateSabotaged(Sabotage sabotage, const Schedule& schedule,
                                      const std::function<void()>& launches);

// Of the emulation under way.
bool Planted(Sabotage sabotage);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_SABOTAGE_H_
