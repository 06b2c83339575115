// Dense fp32 products of few rows, as in decoding: c[m,n] (+)= a[m,k] b[n,k]^T, computed as dot products that read b
// once, in place. Libraries would pack b first.
#ifndef ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_
#define ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace angel_ptm {

inline constexpr int64_t kFewRows = 4;

inline bool IsFewRows(const Gemm& g) { return g.m <= kFewRows && !g.trans_a && g.trans_b; }

// Requires IsFewRows(gemm); any extent may be 0. An element's bits depend only on its row of a and its row of b.
void MultiplyFewRows(const Gemm& gemm);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_
