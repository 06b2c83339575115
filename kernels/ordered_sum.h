// The device-side sum of a reduction, over blocks that an exchange has delivered. It is not an op of a graph and
// therefore in no KernelTable. Its bits are those of comm/ordered_sum.h.
#ifndef ANGEL_PTM_KERNELS_ORDERED_SUM_H_
#define ANGEL_PTM_KERNELS_ORDERED_SUM_H_

#include <cstddef>
#include <cstdint>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// dst[i] = s, or dst[i] + s if `accumulate`, for i < n, where s = ((x_0[i] + x_1[i]) + x_2[i]) + ... in fp32, one term
// per rank. dst is fp32, or, only without `accumulate`, bf16 to which s is rounded. x_r has n elements of `type`, fp32
// or bf16. It is at blocks + r * stride bytes, except that of rank `own_rank`, which is at `own`. An fp32 dst may be
// the same memory as an fp32 `own`; otherwise nothing overlaps. All addresses are aligned to their elements; the sum is
// faster if all are aligned to 16 bytes.
struct OrderedSumArgs {
  std::byte* dst = nullptr;
  const std::byte* blocks = nullptr;
  const std::byte* own = nullptr;
  int64_t stride = 0;
  int64_t n = 0;
  int ranks = 1, own_rank = 0;
  DType dst_type = DType::kFloat32, type = DType::kFloat32;
  bool accumulate = false;
};

// Enqueues the sum on `stream` (a cudaStream_t).
using LaunchDeviceSum = void (*)(const OrderedSumArgs& args, void* stream);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_ORDERED_SUM_H_
