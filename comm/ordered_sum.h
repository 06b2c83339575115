// The one summation every transport uses, so that their results have the same bits.
#ifndef ANGEL_PTM_COMM_ORDERED_SUM_H_
#define ANGEL_PTM_COMM_ORDERED_SUM_H_

#include <cstdint>
#include <span>

namespace angel_ptm {

// dst[i] = s, or dst[i] + s with accumulate, where s = ((x[0][i] + x[1][i]) + x[2][i]) + ...; i < n.
// dst may be one of x's arrays but must not overlap one partly. x.size() >= 1.
void OrderedSum(float* dst, std::span<const float* const> x, int64_t n, bool accumulate);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_ORDERED_SUM_H_
