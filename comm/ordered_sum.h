// The one summation every transport uses, so that their results have the same bits.
#ifndef ANGEL_PTM_COMM_ORDERED_SUM_H_
#define ANGEL_PTM_COMM_ORDERED_SUM_H_

#include <cstdint>

namespace angel_ptm {

// dst[i] = s, or dst[i] + s with accumulate, where s = ((x[0] + x[stride]) + x[2*stride]) + ..., `ranks` addends from
// x + i; i < n. dst may be one of the addends' arrays but must not overlap one partly. ranks >= 1.
void OrderedSum(float* dst, const float* x, int64_t stride, int ranks, int64_t n, bool accumulate);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_ORDERED_SUM_H_
