#ifndef ANGEL_PTM_TESTS_REFERENCE_GROUP_NORM_H_
#define ANGEL_PTM_TESTS_REFERENCE_GROUP_NORM_H_

#include <cstdint>

namespace angel_ptm::reference {

// B samples of S rows of C columns, in groups of adjacent columns; with silu the result goes through SiLU.
struct GroupNormShape {
  int64_t b, s, c, groups;
  bool silu;
  double epsilon;
};
void GroupNorm(double* y, const double* x, const double* weight, const double* bias, const GroupNormShape& shape);
// Overwrites all three gradients.
void GroupNormGrad(double* dx, double* dweight, double* dbias, const double* dy, const double* x, const double* weight,
                   const double* bias, const GroupNormShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_GROUP_NORM_H_
