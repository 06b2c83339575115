// The CUDA backend, for runs in bf16 or fp32.
#ifndef ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_
#define ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

// A kernel is put on KernelContext::stream, and the call returns. Every pointer of its arguments, to scalars, tokens
// and spans too, and the workspace are ones the device can follow. Results and workspaces do not depend on
// KernelContext::threads. `can_run` refuses an op that has no kernel (cuda_kernels.cc lists those that have one), and
// types and shapes that its kernel does not take.
const KernelTable& CudaKernels();

// By wgmma and TMA, for sm_90a alone (sm90a_kernels.cc); in no table before they were shown right on a GPU. They take
// of bf16 operands what CudaKernels()'s kernels take, matmul if rows of a and b are multiples of 8 elements.
Kernel<MatmulArgs> CudaMatmulSm90a();
Kernel<GroupedMatmulArgs> CudaGroupedMatmulSm90a();  // likewise
// Likewise, if the rows of a block are a multiple of 16.
Kernel<GroupedMatmulGradWeightArgs> CudaGroupedMatmulGradWeightSm90a();
// Attention, if the head dimension is 128 at most, rows of v are multiples of it, v is aligned to 16
// bytes, and the scale is above 0.
Kernel<AttentionArgs> CudaAttentionSm90a();
Kernel<AttentionGradArgs> CudaAttentionGradSm90a();  // and of dv as of v

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_
