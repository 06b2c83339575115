// The instruction-set levels that the host backend is compiled for, and those that this machine can run. The level is
// part of the numerics: different levels give different last bits.
#ifndef ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_
#define ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace angel_ptm {

// The features that CPUID reports on an x86-64 processor, and the registers that the operating system saves (XCR0). All
// zero on other processors.
struct X86Features {
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_edx = 0, leaf7_1_eax = 0, extended_ecx = 0;
  uint64_t xcr0 = 0;
};
X86Features ReadX86Features();

struct CpuIsa {
  const char* name;    // "portable", "x86-64-v3", "avx512", "avx512-bf16" or "amx": what --isa takes
  bool bf16_products;  // has instructions for bf16 products; CPUID does not say how fast they are
  // The features that code of this level needs. They include those of all lower levels.
  X86Features needs;
  // May be called only on a machine that runs the level; this also holds for every function of the table.
  const KernelTable& (*kernels)();
};

// The levels of this program, lowest first. The lowest, "portable", is the compiler's baseline and runs everywhere.
std::span<const CpuIsa> CpuIsas();

bool HasFeatures(const X86Features& has, const X86Features& needs);

// The levels that this machine runs, lowest first. Asks the operating system for permission to use the AMX registers,
// which the process then keeps; without this permission the AMX level is not included.
std::vector<const CpuIsa*> RunnableCpuIsas();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_
