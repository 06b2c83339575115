#include "tests/reference/modulated_norm.h"

#include <algorithm>
#include <cmath>

namespace angel_ptm::reference {
namespace {

double Mean(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum / static_cast<double>(n);
}

double Deviation(const double* x, int64_t n, double epsilon) {
  const double mean = Mean(x, n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return std::sqrt(sum / static_cast<double>(n) + epsilon);
}

double Or(const double* values, int64_t at, double otherwise) { return values == nullptr ? otherwise : values[at]; }

}  // namespace

void LayerNorm(double* y, const double* x, const ModulatedNorm& z) {
  for (int64_t row = 0; row < z.b * z.s; ++row) {
    const double* at = x + row * z.h;
    const double mean = Mean(at, z.h), deviation = Deviation(at, z.h, z.epsilon);
    for (int64_t i = 0; i < z.h; ++i) {
      const int64_t of_sample = row / z.s * z.h + i;
      const double affine = (at[i] - mean) / deviation * Or(z.weight, i, 1) + Or(z.bias, i, 0);
      y[row * z.h + i] = affine * (1 + Or(z.scale, of_sample, 0)) + Or(z.shift, of_sample, 0);
    }
  }
}

void LayerNormGrad(const ModulatedNormGrads& grads, const double* dy, const double* x, const ModulatedNorm& z) {
  std::fill_n(grads.dweight, z.h, 0.0);
  std::fill_n(grads.dbias, z.h, 0.0);
  std::fill_n(grads.dscale, z.b * z.h, 0.0);
  std::fill_n(grads.dshift, z.b * z.h, 0.0);
  for (int64_t row = 0; row < z.b * z.s; ++row) {
    const double* at = x + row * z.h;
    const double mean = Mean(at, z.h), deviation = Deviation(at, z.h, z.epsilon);
    double sum = 0, along = 0;
    for (int64_t i = 0; i < z.h; ++i) {
      const int64_t of_sample = row / z.s * z.h + i;
      const double n = (at[i] - mean) / deviation, scale = 1 + Or(z.scale, of_sample, 0), weight = Or(z.weight, i, 1);
      const double dout = dy[row * z.h + i];
      grads.dshift[of_sample] += dout;
      grads.dscale[of_sample] += dout * (n * weight + Or(z.bias, i, 0));
      grads.dbias[i] += dout * scale;
      grads.dweight[i] += dout * scale * n;
      sum += dout * scale * weight;
      along += dout * scale * weight * n;
    }
    for (int64_t i = 0; i < z.h; ++i) {
      const double n = (at[i] - mean) / deviation, scale = 1 + Or(z.scale, row / z.s * z.h + i, 0);
      const double dn = dy[row * z.h + i] * scale * Or(z.weight, i, 1);
      grads.dx[row * z.h + i] = (dn - (sum + n * along) / static_cast<double>(z.h)) / deviation;
    }
  }
}

void GatedAdd(double* y, const double* x, const double* delta, const double* gate, int64_t b, int64_t s, int64_t h) {
  for (int64_t i = 0; i < b * s * h; ++i) y[i] = x[i] + gate[i / (s * h) * h + i % h] * delta[i];
}

void GatedAddGrad(double* ddelta, double* dgate, const double* dy, const double* delta, const double* gate, int64_t b,
                  int64_t s, int64_t h) {
  std::fill_n(dgate, b * h, 0.0);
  for (int64_t i = 0; i < b * s * h; ++i) {
    const int64_t of_sample = i / (s * h) * h + i % h;
    ddelta[i] = gate[of_sample] * dy[i];
    dgate[of_sample] += dy[i] * delta[i];
  }
}

void AddRows(double* y, const double* x, const double* rows, int64_t t, int64_t h, int64_t p) {
  for (int64_t i = 0; i < t * h; ++i) y[i] = x[i] + rows[i % (p * h)];
}

void AddRowsGrad(double* drows, const double* dy, int64_t t, int64_t h, int64_t p) {
  std::fill_n(drows, p * h, 0.0);
  for (int64_t i = 0; i < t * h; ++i) drows[i % (p * h)] += dy[i];
}

}  // namespace angel_ptm::reference
