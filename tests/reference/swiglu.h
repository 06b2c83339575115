// SwiGLU (Shazeer 2020) over gate_up[R,2F] = [gate | up], fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_SWIGLU_H_
#define ANGEL_PTM_TESTS_REFERENCE_SWIGLU_H_

#include <cstdint>

namespace angel_ptm::reference {

void Swiglu(double* y, const double* gate_up, int64_t rows, int64_t f);
void SwigluGrad(double* dgate_up, const double* dy, const double* gate_up, int64_t rows, int64_t f);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_SWIGLU_H_
