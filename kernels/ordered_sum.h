// The sum of a reduction on a device, of blocks that an exchange has brought: no op of a graph, so in no table. The
// bits are those of comm/ordered_sum.h.
#ifndef ANGEL_PTM_KERNELS_ORDERED_SUM_H_
#define ANGEL_PTM_KERNELS_ORDERED_SUM_H_

#include <cstddef>
#include <cstdint>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// dst[i] = s, or dst[i] + s with accumulate, where s = ((x_0[i] + x_1[i]) + x_2[i]) + ... in fp32, i < n. dst is fp32,
// or bf16 that s is rounded to, without accumulate. x_r has n elements of `type`, fp32 or bf16, at blocks + r * stride
// bytes, that of rank `own_rank` at `own`. An fp32 dst may be an fp32 `own`; otherwise no overlap. All are aligned to
// their elements; it is faster where all are to 16 bytes.
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

// Puts it on a stream (a cudaStream_t).
using LaunchDeviceSum = void (*)(const OrderedSumArgs& args, void* stream);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_ORDERED_SUM_H_
