// Kernels of one instruction each, with known results that a GPU must give as well.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_PROBES_PROBES_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_PROBES_PROBES_H_

#include <cstdint>

#include "angel_ptm/base/bfloat16.h"

namespace angel_ptm::emulated {

// c[64,N] = op(a) op(b) by wgmma. a is [64,64], or transposed [k,m]; b is [N,64], or transposed [k,n]. N is 64, or 128
// with b transposed.
struct WgmmaForm {
  const char* name;
  bool a_transposed, b_transposed, a_in_registers;
  int n;
};
inline constexpr WgmmaForm kWgmmaForms[] = {{"k-major a and b", false, false, false, 64},
                                            {"m-major a", true, false, false, 64},
                                            {"n-major b", false, true, false, 64},
                                            {"m-major a, n-major b", true, true, false, 64},
                                            {"a in registers", false, false, true, 64},
                                            {"a in registers, n-major b", false, true, true, 64},
                                            {"128 columns, n-major b", false, true, false, 128}};
void LaunchWgmmaProbe(int form, float* c, const BFloat16* a, const BFloat16* b);

// y[2,4,64] = the box of x[planes, rows, columns] at (x, y, z), copied through shared memory.
struct BoxAt {
  int x, y, z;
};
void LaunchBoxProbe(float* y, BFloat16* x, std::uint64_t columns, std::uint64_t rows, std::uint64_t planes, BoxAt at);

// y[i, lane] = the results of nine shuffles and votes of a warp.
inline constexpr int kShuffles = 9;
void LaunchShuffleProbe(std::uint32_t* y);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_PROBES_PROBES_H_
