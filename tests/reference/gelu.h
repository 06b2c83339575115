// GELU by its tanh approximation, elementwise.
#ifndef ANGEL_PTM_TESTS_REFERENCE_GELU_H_
#define ANGEL_PTM_TESTS_REFERENCE_GELU_H_

#include <cstdint>

namespace angel_ptm::reference {

void Gelu(double* y, const double* x, int64_t n);
void GeluGrad(double* dx, const double* dy, const double* x, int64_t n);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_GELU_H_
