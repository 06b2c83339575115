#include "tests/reference/gelu.h"

#include <cmath>
#include <numbers>

namespace angel_ptm::reference {
namespace {

const double kRoot = std::sqrt(2 / std::numbers::pi);
double Inner(double x) { return kRoot * (x + 0.044715 * x * x * x); }

double Distribution(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

}  // namespace

void Gelu(double* y, const double* x, int64_t n, bool erf) {
  if (erf) {
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] * Distribution(x[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) y[i] = 0.5 * x[i] * (1 + std::tanh(Inner(x[i])));
}

void GeluGrad(double* dx, const double* dy, const double* x, int64_t n, bool erf) {
  if (erf) {
    for (int64_t i = 0; i < n; ++i) {
      const double density = std::exp(-x[i] * x[i] / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      dx[i] = dy[i] * (Distribution(x[i]) + x[i] * density);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const double tanh = std::tanh(Inner(x[i]));
    const double slope = (1 - tanh * tanh) * kRoot * (1 + 3 * 0.044715 * x[i] * x[i]);
    dx[i] = dy[i] * 0.5 * (1 + tanh + x[i] * slope);
  }
}

}  // namespace angel_ptm::reference
