#include "tests/reference/gelu.h"

#include <cmath>
#include <numbers>

namespace angel_ptm::reference {
namespace {

const double kRoot = std::sqrt(2 / std::numbers::pi);
double Inner(double x) { return kRoot * (x + 0.044715 * x * x * x); }

}  // namespace

void Gelu(double* y, const double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = 0.5 * x[i] * (1 + std::tanh(Inner(x[i])));
}

void GeluGrad(double* dx, const double* dy, const double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double tanh = std::tanh(Inner(x[i]));
    const double slope = (1 - tanh * tanh) * kRoot * (1 + 3 * 0.044715 * x[i] * x[i]);
    dx[i] = dy[i] * 0.5 * (1 + tanh + x[i] * slope);
  }
}

}  // namespace angel_ptm::reference
