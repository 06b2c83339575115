#include "tests/reference/rms_norm.h"

#include <cmath>

namespace angel_ptm::reference {
namespace {

double Rms(const double* x, int64_t n, double epsilon) {
  double square = 0;
  for (int64_t i = 0; i < n; ++i) square += x[i] * x[i];
  return std::sqrt(square / static_cast<double>(n) + epsilon);
}

}  // namespace

void RmsNorm(double* y, double* rstd, const double* x, const double* weight, int64_t rows, int64_t n, double epsilon) {
  for (int64_t r = 0; r < rows; ++r) {
    const double rms = Rms(x + r * n, n, epsilon);
    rstd[r] = 1 / rms;
    for (int64_t i = 0; i < n; ++i) y[r * n + i] = x[r * n + i] / rms * weight[i];
  }
}

// y_i = w_i x_i / rms  and  d rms / d x_j = x_j / (n rms).
void RmsNormGrad(double* dx, double* dweight, const double* dy, const double* x, const double* weight, int64_t rows,
                 int64_t n, double epsilon) {
  for (int64_t r = 0; r < rows; ++r) {
    const double* x_r = x + r * n;
    const double* dy_r = dy + r * n;
    const double rms = Rms(x_r, n, epsilon);
    double drms = 0;
    for (int64_t i = 0; i < n; ++i) {
      dweight[i] += dy_r[i] * x_r[i] / rms;
      drms -= dy_r[i] * weight[i] * x_r[i] / (rms * rms);
    }
    for (int64_t j = 0; j < n; ++j) {
      dx[r * n + j] = dy_r[j] * weight[j] / rms + drms * x_r[j] / (static_cast<double>(n) * rms);
    }
  }
}

}  // namespace angel_ptm::reference
