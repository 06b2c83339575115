#include "tests/reference/rope.h"

#include <cmath>

namespace angel_ptm::reference {

void RopeTable(double* cos_sin, const int32_t* positions, int64_t t, int64_t d, double theta, double alpha) {
  const double dim = static_cast<double>(d);
  const double base = alpha > 0 ? theta * std::pow(alpha, dim / (dim - 2)) : theta;
  for (int64_t token = 0; token < t; ++token) {
    for (int64_t i = 0; i < d / 2; ++i) {
      const double angle = positions[token] * std::pow(base, -2 * static_cast<double>(i) / dim);
      cos_sin[token * d + 2 * i] = std::cos(angle);
      cos_sin[token * d + 2 * i + 1] = std::sin(angle);
    }
  }
}

void Rotate(double* y, const double* x, const double* cos_sin, int64_t d, bool backwards) {
  for (int64_t i = 0; i < d / 2; ++i) {
    const double c = cos_sin[2 * i], s = backwards ? -cos_sin[2 * i + 1] : cos_sin[2 * i + 1];
    const double first = x[i], second = x[i + d / 2];
    y[i] = first * c - second * s;
    y[i + d / 2] = first * s + second * c;
  }
}

}  // namespace angel_ptm::reference
