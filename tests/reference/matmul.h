// c[M,N] = op(a) op(b), fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_MATMUL_H_
#define ANGEL_PTM_TESTS_REFERENCE_MATMUL_H_

#include <cstdint>

namespace angel_ptm::reference {

// a is [M,K], or [K,M] if trans_a; b is [K,N], or [N,K] if trans_b.
void Matmul(double* c, const double* a, const double* b, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_MATMUL_H_
