// The 128-byte swizzle of TMA and wgmma: the 16-byte chunks of a 1024-byte atom of eight rows are permuted within their
// row.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_SWIZZLE_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_SWIZZLE_H_

#include <cstdint>

namespace angel_ptm::emulated {

inline constexpr std::uint32_t kSwizzleSpan = 128, kSwizzleAtom = 1024;

// Address bits 4 to 6 are XORed with bits 7 to 9.
inline std::uint32_t Swizzled128(std::uint32_t address) { return address ^ (address >> 3 & 0x70); }

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_SWIZZLE_H_
