// The one summation every transport uses, so that their results have the same bits.
#ifndef ANGEL_PTM_COMM_ORDERED_SUM_H_
#define ANGEL_PTM_COMM_ORDERED_SUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// dst[i] = s, or dst[i] + s with accumulate, where s = ((x_0[i] + x_1[i]) + x_2[i]) + ... in fp32, i < n, and x[r] is
// the address of x_r, n elements of `type`: fp32 or bf16. dst may be one of the x_r if they are fp32, but must not
// partly overlap any. At least one addend.
void OrderedSum(float* dst, std::span<const std::byte* const> x, DType type, int64_t n, bool accumulate);

// dst[i] = s as above, rounded to bf16. dst overlaps no x_r.
void OrderedSumRounded(BFloat16* dst, std::span<const std::byte* const> x, DType type, int64_t n);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_ORDERED_SUM_H_
