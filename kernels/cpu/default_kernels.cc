// Alone in its file so that a test program can define its own CpuKernels.
#include "kernels/cpu/cpu_isa.h"

namespace angel_ptm {

const KernelTable& CpuKernels() {
  static const CpuIsa& isa = *RunnableCpuIsas().back();
  return isa.kernels();
}

}  // namespace angel_ptm
