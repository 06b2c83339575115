// LayerNorm with adaLN, gated residuals and repeated rows: what a diffusion transformer has beside its products.
#ifndef ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_
#define ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_

#include <cstdint>

namespace angel_ptm::reference {

// Of B samples of S rows of H; any of weight[H] and bias[H] (ones and zeros), scale[B,H] and shift[B,H] (zeros) may be
// null: y = (n weight + bias) (1 + scale) + shift.
struct ModulatedNorm {
  int64_t b, s, h;
  double epsilon;
  const double *weight, *bias, *scale, *shift;
};
void LayerNorm(double* y, const double* x, const ModulatedNorm& norm);
// All overwritten: dx[B*S,H], dweight[H], dbias[H], dscale[B,H], dshift[B,H].
struct ModulatedNormGrads {
  double *dx, *dweight, *dbias, *dscale, *dshift;
};
void LayerNormGrad(const ModulatedNormGrads& grads, const double* dy, const double* x, const ModulatedNorm& norm);

// y = x + gate[B,H] * delta, and the gradients of delta and gate.
void GatedAdd(double* y, const double* x, const double* delta, const double* gate, int64_t b, int64_t s, int64_t h);
void GatedAddGrad(double* ddelta, double* dgate, const double* dy, const double* delta, const double* gate, int64_t b,
                  int64_t s, int64_t h);

// y[T,H] = x + rows[P,H] over and over, and the gradient of rows.
void AddRows(double* y, const double* x, const double* rows, int64_t t, int64_t h, int64_t p);
void AddRowsGrad(double* drows, const double* dy, int64_t t, int64_t h, int64_t p);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_MODULATED_NORM_H_
