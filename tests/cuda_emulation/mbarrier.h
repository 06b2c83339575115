// mbarriers, as far as bulk copies need to know.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_

#include <cstdint>

#include "tests/cuda_emulation/machine.h"

namespace angel_ptm::emulated {

// A copy that will complete on this barrier: is it one, and has its init been made known to the asynchronous proxy?
void CheckCopyBarrier(std::uint32_t barrier, const void* at);
// The copy's bytes have come. `issuer` as it was when it issued the copy.
struct CopyIssuer {
  Past past;
  int thread = 0;
  std::uint32_t clock = 0, fenced = 0;
};
void CompleteBytes(std::uint32_t barrier, std::int64_t bytes, const CopyIssuer& issuer, Epoch copy);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_MBARRIER_H_
