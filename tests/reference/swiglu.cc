#include "tests/reference/swiglu.h"

#include <cmath>

namespace angel_ptm::reference {

void Swiglu(double* y, const double* gate_up, int64_t rows, int64_t f) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < f; ++i) {
      const double gate = gate_up[r * 2 * f + i], up = gate_up[r * 2 * f + f + i];
      y[r * f + i] = gate / (1 + std::exp(-gate)) * up;
    }
  }
}

void SwigluGrad(double* dgate_up, const double* dy, const double* gate_up, int64_t rows, int64_t f) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < f; ++i) {
      const double gate = gate_up[r * 2 * f + i], up = gate_up[r * 2 * f + f + i];
      const double s = 1 / (1 + std::exp(-gate));
      dgate_up[r * 2 * f + i] = dy[r * f + i] * up * (s + gate * s * (1 - s));
      dgate_up[r * 2 * f + f + i] = dy[r * f + i] * gate * s;
    }
  }
}

}  // namespace angel_ptm::reference
