// The loss of diffusion models that learn their variance (kernels/ops/hybrid_loss.h), term by term as in Nichol &
// Dhariwal 2021.
#ifndef ANGEL_PTM_TESTS_REFERENCE_HYBRID_LOSS_H_
#define ANGEL_PTM_TESTS_REFERENCE_HYBRID_LOSS_H_

#include <cstdint>

namespace angel_ptm::reference {

// KL(N(mean1, exp log_variance1) || N(mean2, exp log_variance2)) in nats.
double NormalDivergence(double mean1, double log_variance1, double mean2, double log_variance2);
// -log of the probability, taken as at least 1e-12, that N(mean, exp log_variance) gives the bin of width 2 / 255
// around x. The bin is open below if x < -0.999 and open above if x > 0.999.
double DecodedNats(double x, double mean, double log_variance);

// squared[B] = weight * mean of (p - target)^2, bound[B] = weight of the bound * mean of its terms. dx[B,R,2C]: the
// gradient of their sums, by p of the first, by v of the second, here by differences of fourth order. x[B,R,2C],
// target[B,R,C], clean[B,R,C], weight[B], coefficients[B,5].
void HybridLoss(double* squared, double* bound, double* dx, const double* x, const double* target, const double* clean,
                const double* weight, const double* coefficients, int64_t b, int64_t r, int64_t c);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_HYBRID_LOSS_H_
