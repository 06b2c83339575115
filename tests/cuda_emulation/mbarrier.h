// mbarriers, to the extent that bulk copies use them.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_

#include <cstdint>

#include "tests/cuda_emulation/machine.h"

namespace angel_ptm::emulated {

// Checks the barrier that a copy will complete on: that it is one, and that its init has been made visible to the
// asynchronous proxy.
void CheckCopyBarrier(std::uint32_t barrier, const void* at);
// The issuer of a copy, as it was when it issued the copy; CompleteBytes says that the copy's bytes have arrived.
struct CopyIssuer {
  Past past;
  int thread = 0;
  std::uint32_t clock = 0, fenced = 0;
};
void CompleteBytes(std::uint32_t barrier, std::int64_t bytes, const CopyIssuer& issuer, Epoch copy);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_
