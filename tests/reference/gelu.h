// GELU by its tanh approximation, or with `erf` as defined, elementwise.
#ifndef ANGEL_PTM_TESTS_REFERENCE_GELU_H_
#define ANGEL_PTM_TESTS_REFERENCE_GELU_H_

#include <cstdint>

namespace angel_ptm::reference {

void Gelu(double* y, const double* x, int64_t n, bool erf = false);
void GeluGrad(double* dx, const double* dy, const double* x, int64_t n, bool erf = false);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_GELU_H_
