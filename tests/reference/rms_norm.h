// RMSNorm (Zhang & Sennrich 2019, eq. 4) of rows x[R,N], fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_RMS_NORM_H_
#define ANGEL_PTM_TESTS_REFERENCE_RMS_NORM_H_

#include <cstdint>

namespace angel_ptm::reference {

// rstd[R] = 1 / sqrt(mean(x^2) + epsilon).
void RmsNorm(double* y, double* rstd, const double* x, const double* weight, int64_t rows, int64_t n, double epsilon);
// dx is overwritten, dweight is added to.
void RmsNormGrad(double* dx, double* dweight, const double* dy, const double* x, const double* weight, int64_t rows,
                 int64_t n, double epsilon);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_RMS_NORM_H_
