#include "kernels/cpu/cpu_kernels.h"

namespace angel_ptm {

// The only symbol of a level that the rest of the program sees (cmake/AngelPtmCpuIsas.cmake). It is named after the
// level.
const KernelTable& ANGEL_PTM_CPU_KERNELS() {
  static const KernelTable table = {
      .name = "cpu",
      .alignment_bytes = 64,
#define APTM_OP(Kind, name) .name = Cpu##Kind(),
#include "kernels/ops.def"
  };
  return table;
}

}  // namespace angel_ptm
