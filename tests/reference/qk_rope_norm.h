// Queries and keys of a packed projection: rotated, then RMS-normed over the head dimension (HunYuan V1), fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_QK_ROPE_NORM_H_
#define ANGEL_PTM_TESTS_REFERENCE_QK_ROPE_NORM_H_

#include <cstdint>

namespace angel_ptm::reference {

struct QkShape {
  int64_t t, q_heads, kv_heads, d;
  double epsilon;
};

// q[T,Q,D], k[T,G,D] and their norms' q_rstd[T,Q], k_rstd[T,G] from qkv[T,(Q+2G)*D].
void QkRopeNorm(double* q, double* k, double* q_rstd, double* k_rstd, const double* qkv, const double* cos_sin,
                const double* q_weight, const double* k_weight, const QkShape& shape);
// Writes the query and key columns of dqkv; adds to dq_weight[D] and dk_weight[D].
void QkRopeNormGrad(double* dqkv, double* dq_weight, double* dk_weight, const double* dq, const double* dk,
                    const double* qkv, const double* cos_sin, const double* q_weight, const double* k_weight,
                    const QkShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_QK_ROPE_NORM_H_
