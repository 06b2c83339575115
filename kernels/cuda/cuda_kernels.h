// The CUDA backend, for runs in bf16 or fp32.
#ifndef ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_
#define ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

// A kernel is enqueued on KernelContext::stream, and the call returns. Every pointer in its arguments (also those to
// scalars, tokens and spans) and the workspace must be accessible from the device. Results and workspaces do not depend
// on KernelContext::threads. `can_run` refuses an op that has no kernel (cuda_kernels.cc lists those that have one),
// and types and shapes that its kernel does not take.
const KernelTable& CudaKernels();

// Kernels by wgmma and TMA, for sm_90a alone (sm90a_kernels.cc). They are in no table until they have been shown to be
// correct on a GPU. Each takes what the kernel of CudaKernels() takes, but only with bf16 operands and with the
// restrictions given here. Matmul: rows of a and b are multiples of 8 elements.
Kernel<MatmulArgs> CudaMatmulSm90a();
Kernel<GroupedMatmulArgs> CudaGroupedMatmulSm90a();  // likewise
// Likewise, and the number of rows of a block is a multiple of 16.
Kernel<GroupedMatmulGradWeightArgs> CudaGroupedMatmulGradWeightSm90a();
// Attention: the head dimension is at most 128, rows of v are multiples of it, v is aligned to 16 bytes, and the scale
// is above 0.
Kernel<AttentionArgs> CudaAttentionSm90a();
Kernel<AttentionGradArgs> CudaAttentionGradSm90a();  // likewise, with dv like v

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CUDA_CUDA_KERNELS_H_
