#ifndef ANGEL_PTM_KERNELS_CUDA_CUDA_ORDERED_SUM_H_
#define ANGEL_PTM_KERNELS_CUDA_CUDA_ORDERED_SUM_H_

#include "kernels/ordered_sum.h"

namespace angel_ptm {

// The LaunchDeviceSum of the CUDA backend.
void LaunchCudaOrderedSum(const OrderedSumArgs& args, void* stream);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CUDA_CUDA_ORDERED_SUM_H_
