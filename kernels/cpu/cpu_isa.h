// The levels of instruction sets that the host backend is compiled for, and those that this machine runs. A level is
// part of the numerics: another one gives other last bits.
#ifndef ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_
#define ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace angel_ptm {

// What the CPUID instruction says of an x86-64 processor, and which registers the system saves (XCR0). All zero on
// others.
struct X86Features {
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_edx = 0, leaf7_1_eax = 0, extended_ecx = 0;
  uint64_t xcr0 = 0;
};
X86Features ReadX86Features();

struct CpuIsa {
  const char* name;    // "portable", "x86-64-v3", "avx512", "avx512-bf16" or "amx": what --isa takes
  bool bf16_products;  // has instructions for them, of whose rate CPUID says nothing
  // What code for the level needs of the processor; every level has all bits of those below it.
  X86Features needs;
  // Only to be called, as all that is in the table, on a machine that runs the level.
  const KernelTable& (*kernels)();
};

// Those of this program, lowest first: portable, the compiler's baseline, runs everywhere.
std::span<const CpuIsa> CpuIsas();

bool HasFeatures(const X86Features& has, const X86Features& needs);

// Those that this machine runs, lowest first. Asks the system for the registers of AMX, which stay this process's; a
// system that has none to give does not run that level.
std::vector<const CpuIsa*> RunnableCpuIsas();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CPU_ISA_H_
