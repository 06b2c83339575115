// Sums over the rows of a sample: means, and the squared error of a diffusion model. Also SiLU, and columns beside
// columns.
#ifndef ANGEL_PTM_TESTS_REFERENCE_SAMPLES_H_
#define ANGEL_PTM_TESTS_REFERENCE_SAMPLES_H_

#include <cstdint>

namespace angel_ptm::reference {

void Silu(double* y, const double* x, int64_t n);
void SiluGrad(double* dx, const double* dy, const double* x, int64_t n);

// y[B,H] = mean of the first counts[b] of sample b's rows in x[B,S,H], and its gradient.
void MeanPool(double* y, const double* x, const int32_t* counts, int64_t b, int64_t s, int64_t h);
void MeanPoolGrad(double* dx, const double* dy, const int32_t* counts, int64_t b, int64_t s, int64_t h);

// sample_loss[B] = weight * mean of (x - target)^2 over N; dx[B,N] is the gradient of their sum.
void WeightedMse(double* sample_loss, double* dx, const double* x, const double* target, const double* weight,
                 int64_t b, int64_t n);

// y[R,A+B] = a[R,A] beside b[R,B].
void Concat(double* y, const double* a, const double* b, int64_t rows, int64_t a_width, int64_t b_width);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_SAMPLES_H_
