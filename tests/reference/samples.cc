#include "tests/reference/samples.h"

#include <algorithm>
#include <cmath>

namespace angel_ptm::reference {

void Silu(double* y, const double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / (1 + std::exp(-x[i]));
}

void SiluGrad(double* dx, const double* dy, const double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double gate = 1 / (1 + std::exp(-x[i]));
    dx[i] = dy[i] * gate * (1 + x[i] * (1 - gate));
  }
}

void MeanPool(double* y, const double* x, const int32_t* counts, int64_t b, int64_t s, int64_t h) {
  std::fill_n(y, b * h, 0.0);
  for (int64_t i = 0; i < b * s * h; ++i) {
    const int64_t sample = i / (s * h);
    if (i / h % s < counts[sample]) y[sample * h + i % h] += x[i] / counts[sample];
  }
}

void MeanPoolGrad(double* dx, const double* dy, const int32_t* counts, int64_t b, int64_t s, int64_t h) {
  for (int64_t i = 0; i < b * s * h; ++i) {
    const int64_t sample = i / (s * h);
    dx[i] = i / h % s < counts[sample] ? dy[sample * h + i % h] / counts[sample] : 0;
  }
}

void WeightedMse(double* sample_loss, double* dx, const double* x, const double* target, const double* weight,
                 int64_t b, int64_t n) {
  std::fill_n(sample_loss, b, 0.0);
  for (int64_t i = 0; i < b * n; ++i) {
    const double factor = weight[i / n] / static_cast<double>(n), difference = x[i] - target[i];
    sample_loss[i / n] += factor * difference * difference;
    dx[i] = 2 * factor * difference;
  }
}

void Concat(double* y, const double* a, const double* b, int64_t rows, int64_t a_width, int64_t b_width) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < a_width; ++i) *y++ = a[row * a_width + i];
    for (int64_t i = 0; i < b_width; ++i) *y++ = b[row * b_width + i];
  }
}

}  // namespace angel_ptm::reference
