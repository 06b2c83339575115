#include "kernels/cpu/cpu_kernels.h"

namespace angel_ptm {

const KernelTable& CpuKernels() {
  static const KernelTable table = {
      .name = "cpu",
      .alignment_bytes = 64,
#define APTM_OP(Kind, name) .name = Cpu##Kind(),
#include "kernels/ops.def"
  };
  return table;
}

}  // namespace angel_ptm
