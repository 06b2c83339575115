// RMSNorm or LayerNorm of heads, then RoPE.
#ifndef ANGEL_PTM_TESTS_REFERENCE_NORM_ROPE_H_
#define ANGEL_PTM_TESTS_REFERENCE_NORM_ROPE_H_

#include <cstdint>

namespace angel_ptm::reference {

struct NormRopeShape {
  int64_t t, heads, d, x_row, table_rows;  // x_row: stride between tokens of x
  bool layer_norm, interleaved;
  double epsilon;
};
// y[T,N,D]; bias[D] and cos_sin[P,D/2,2] may be null.
void NormRope(double* y, const double* x, const double* weight, const double* bias, const double* cos_sin,
              const NormRopeShape& shape);
// dx is laid out like x, and only its heads are written; dweight and dbias are overwritten.
void NormRopeGrad(double* dx, double* dweight, double* dbias, const double* dy, const double* x, const double* weight,
                  const double* cos_sin, const NormRopeShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_NORM_ROPE_H_
