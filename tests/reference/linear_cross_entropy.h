// Cross-entropy of a linear layer, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_LINEAR_CROSS_ENTROPY_H_
#define ANGEL_PTM_TESTS_REFERENCE_LINEAR_CROSS_ENTROPY_H_

#include <cstdint>

namespace angel_ptm::reference {

// token_loss[t] = logsumexp(weight x[t]) - (weight x[t])[target], 0 where the target is negative. x is [T,H], weight is
// [V,H]. If dx is not null, dx[T,H] and dweight[V,H] get the gradient of the sum of token losses.
void LinearCrossEntropy(double* token_loss, double* dx, double* dweight, const double* x, const double* weight,
                        const int32_t* targets, int64_t t, int64_t h, int64_t v);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_LINEAR_CROSS_ENTROPY_H_
