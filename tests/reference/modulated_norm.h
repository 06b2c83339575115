// LayerNorm with adaLN, gated residuals and repeated rows: what a diffusion transformer computes besides products.
#ifndef ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_
#define ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_

#include <cstdint>

namespace angel_ptm::reference {

// For B samples of S rows of H: y = (n weight + bias) (1 + scale) + shift. Any of weight[H], bias[H], scale[B,H] and
// shift[B,H] may be null; a null weight means ones, the others zeros.
struct ModulatedNorm {
  int64_t b, s, h;
  double epsilon;
  const double *weight, *bias, *scale, *shift;
};
void LayerNorm(double* y, const double* x, const ModulatedNorm& norm);
// All are overwritten: dx[B*S,H], dweight[H], dbias[H], dscale[B,H], dshift[B,H].
struct ModulatedNormGrads {
  double *dx, *dweight, *dbias, *dscale, *dshift;
};
void LayerNormGrad(const ModulatedNormGrads& grads, const double* dy, const double* x, const ModulatedNorm& norm);

// y = x + gate[B,H] * delta, and the gradients of delta and gate.
void GatedAdd(double* y, const double* x, const double* delta, const double* gate, int64_t b, int64_t s, int64_t h);
void GatedAddGrad(double* ddelta, double* dgate, const double* dy, const double* delta, const double* gate, int64_t b,
                  int64_t s, int64_t h);

// y[T,H] = x + rows[P,H], with rows repeated, and the gradient of rows.
void AddRows(double* y, const double* x, const double* rows, int64_t t, int64_t h, int64_t p);
void AddRowsGrad(double* drows, const double* dy, int64_t t, int64_t h, int64_t p);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_
