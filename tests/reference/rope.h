// Rotary position embedding (Su et al. 2021) on halves, with HunYuan's fixed NTK base, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_ROPE_H_
#define ANGEL_PTM_TESTS_REFERENCE_ROPE_H_

#include <cstdint>

namespace angel_ptm::reference {

// cos_sin[T,D/2,2]; alpha == 0 leaves the base at theta.
void RopeTable(double* cos_sin, const int32_t* positions, int64_t t, int64_t d, double theta, double alpha);

// y[D] = x[D] with every pair (x_i, x_{i + D/2}) rotated by its angle, or, if backwards, by minus the angle.
void Rotate(double* y, const double* x, const double* cos_sin, int64_t d, bool backwards);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_ROPE_H_
