// Dense fp32 products of few rows, as in decoding: c[m,n] (+)= a[m,k] b[n,k]^T as dot products, which read b once where
// it lies. Libraries pack it first.
#ifndef ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_
#define ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace angel_ptm {

inline constexpr int64_t kFewRows = 4;

inline bool IsFewRows(const Gemm& g) { return g.m <= kFewRows && !g.trans_a && g.trans_b; }

// An element's bits depend on its row of a and its row of b alone. Of IsFewRows; any extent may be 0.
void MultiplyFewRows(const Gemm& gemm);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_FEW_ROWS_H_
