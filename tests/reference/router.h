// Top-k softmax routing with the load-balancing loss (Fedus et al. 2021, eq. 4, over the top k), fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_ROUTER_H_
#define ANGEL_PTM_TESTS_REFERENCE_ROUTER_H_

#include <cstdint>

namespace angel_ptm::reference {

// probs[T,E] = softmax(x gate^T); experts[T,K] the largest in order of decreasing probability (ties: lower expert
// first); weights[T,K] their probabilities divided by their sum; counts[E] pairs per expert. x is [T,H], gate [E,H].
void Router(double* weights, double* probs, int32_t* experts, int32_t* counts, const double* x, const double* gate,
            int64_t t, int64_t h, int64_t e, int64_t k);

// Overwrites dx[T,H] and dgate[E,H] with the gradients of a loss that has the gradients dweights with respect to the
// weights, plus aux_scale times the load-balancing loss, by the formulas of kernels/ops/router.h.
void RouterGrad(double* dx, double* dgate, const double* dweights, const double* weights, const double* probs,
                const int32_t* experts, const int32_t* counts, const double* x, const double* gate, int64_t t,
                int64_t h, int64_t e, int64_t k, double aux_scale);

// E * sum_e (counts_e / (T K)) * mean_t probs_te.
double LoadBalancingLoss(const double* probs, const int32_t* counts, int64_t t, int64_t e, int64_t k);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_ROUTER_H_
