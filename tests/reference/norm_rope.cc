#include "tests/reference/norm_rope.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace angel_ptm::reference {
namespace {

// Rotates the pairs of v[D] by token t's angles, or back.
void Turn(std::vector<double>& v, const double* cos_sin, int64_t t, bool back, const NormRopeShape& z) {
  if (cos_sin == nullptr) return;
  for (int64_t i = 0; i < z.d / 2; ++i) {
    const double* angle = cos_sin + (t % z.table_rows * (z.d / 2) + i) * 2;
    double& a = v[z.interleaved ? 2 * i : i];
    double& b = v[z.interleaved ? 2 * i + 1 : i + z.d / 2];
    const double c = angle[0], s = back ? -angle[1] : angle[1], turned = a * c - b * s;
    b = b * c + a * s;
    a = turned;
  }
}

// Returns 1 / deviation, or 1 / rms.
double Normed(std::vector<double>& n, const double* x, const NormRopeShape& z) {
  double mean = 0, square = 0;
  for (int64_t i = 0; i < z.d; ++i) mean += x[i] / static_cast<double>(z.d);
  if (!z.layer_norm) mean = 0;
  for (int64_t i = 0; i < z.d; ++i) square += (x[i] - mean) * (x[i] - mean);
  const double factor = 1 / std::sqrt(square / static_cast<double>(z.d) + z.epsilon);
  n.resize(z.d);
  for (int64_t i = 0; i < z.d; ++i) n[i] = (x[i] - mean) * factor;
  return factor;
}

}  // namespace

void NormRope(double* y, const double* x, const double* weight, const double* bias, const double* cos_sin,
              const NormRopeShape& z) {
  std::vector<double> n;
  for (int64_t i = 0; i < z.t * z.heads; ++i) {
    const int64_t t = i / z.heads;
    Normed(n, x + t * z.x_row + i % z.heads * z.d, z);
    for (int64_t j = 0; j < z.d; ++j) n[j] = n[j] * weight[j] + (bias == nullptr ? 0 : bias[j]);
    Turn(n, cos_sin, t, /*back=*/false, z);
    std::copy(n.begin(), n.end(), y + i * z.d);
  }
}

void NormRopeGrad(double* dx, double* dweight, double* dbias, const double* dy, const double* x, const double* weight,
                  const double* cos_sin, const NormRopeShape& z) {
  std::fill_n(dweight, z.d, 0.0);
  std::fill_n(dbias, z.d, 0.0);
  std::vector<double> n, g;
  for (int64_t i = 0; i < z.t * z.heads; ++i) {
    const int64_t t = i / z.heads, at = t * z.x_row + i % z.heads * z.d;
    const double factor = Normed(n, x + at, z);
    g.assign(dy + i * z.d, dy + (i + 1) * z.d);
    Turn(g, cos_sin, t, /*back=*/true, z);
    double mean = 0, along = 0;
    for (int64_t j = 0; j < z.d; ++j) {
      dweight[j] += g[j] * n[j];
      dbias[j] += g[j];
      g[j] *= weight[j];
      mean += g[j] / static_cast<double>(z.d);
      along += g[j] * n[j] / static_cast<double>(z.d);
    }
    if (!z.layer_norm) mean = 0;
    for (int64_t j = 0; j < z.d; ++j) dx[at + j] = factor * (g[j] - mean - n[j] * along);
  }
}

}  // namespace angel_ptm::reference
