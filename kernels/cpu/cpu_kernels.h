// The host backend's entry of every op, each defined in the file of its op (gradients with theirs).
#ifndef ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_
#define ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

#define APTM_OP(Kind, name) Kernel<Kind##Args> Cpu##Kind();
#include "kernels/ops.def"

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CPU_KERNELS_H_
