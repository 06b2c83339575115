// Multiplies rows by the weights of their block's expert, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_GROUPED_MATMUL_H_
#define ANGEL_PTM_TESTS_REFERENCE_GROUPED_MATMUL_H_

#include <cstdint>

namespace angel_ptm::reference {

// c[r,N] = a[r,K] op(b[expert of r's block]); b is [E,N,K] if trans_b, else [E,K,N].
void GroupedMatmul(double* c, const double* a, const double* b, const int32_t* block_expert, int64_t blocks,
                   int64_t block_rows, int64_t n, int64_t k, bool trans_b);

// dw[E,N,K] = sum over rows r of expert e of dy[r,N]^T x[r,K].
void GroupedMatmulGradWeight(double* dw, const double* dy, const double* x, const int32_t* block_expert, int64_t blocks,
                             int64_t block_rows, int64_t n, int64_t k, int64_t e);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_GROUPED_MATMUL_H_
