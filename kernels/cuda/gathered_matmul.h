// Products of experts' weights with tokens without a preceding dispatch, for sm_90a alone (grouped_matmul_sm90a.cu).
#ifndef ANGEL_PTM_KERNELS_CUDA_GATHERED_MATMUL_H_
#define ANGEL_PTM_KERNELS_CUDA_GATHERED_MATMUL_H_

#include <cstdint>

#include "kernels/cuda/cuda_launch.h"

namespace angel_ptm::cuda {

// The rows that dispatch would make from tokens x[T,K] (kernels/ops/dispatch.h): row r is token
// pair_of_row[r] / choices, or zero if pair_of_row[r] is negative.
struct GatheredRows {
  const std::int32_t* pair_of_row;
  std::int32_t choices;
};

// Equals LaunchDispatch followed by LaunchGroupedMatmulSm90a, with their bits; `a` is x. The workspace is that of the
// latter.
void LaunchGatheredMatmulSm90a(const GroupedMatmulArgs& args, const GatheredRows& rows, const LaunchContext& context);

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_GATHERED_MATMUL_H_
