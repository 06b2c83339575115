// The host backend's entry for every op. Each is defined in the file of its op, gradients in the file of the op they
// belong to.
#ifndef ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_
#define ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

#define APTM_OP(Kind, name) Kernel<Kind##Args> Cpu##Kind();
#include "kernels/ops.def"

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_
