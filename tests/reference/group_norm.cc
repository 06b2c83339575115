#include "tests/reference/group_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace angel_ptm::reference {
namespace {

// Calls fn(element) for all elements of group g of sample b.
template <typename Fn>
void ForGroup(const GroupNormShape& z, int64_t b, int64_t g, const Fn& fn) {
  const int64_t width = z.c / z.groups;
  for (int64_t row = b * z.s; row < (b + 1) * z.s; ++row) {
    for (int64_t i = g * width; i < (g + 1) * width; ++i) fn(row * z.c + i);
  }
}

struct Group {
  double mean = 0, deviation = 0, n;

  Group(const double* x, const GroupNormShape& z, int64_t b, int64_t g)
      : n(static_cast<double>(z.s * z.c) / static_cast<double>(z.groups)) {
    ForGroup(z, b, g, [&](int64_t i) { mean += x[i] / n; });
    ForGroup(z, b, g, [&](int64_t i) { deviation += (x[i] - mean) * (x[i] - mean) / n; });
    deviation = std::sqrt(deviation + z.epsilon);
  }
};

}  // namespace

void GroupNorm(double* y, const double* x, const double* weight, const double* bias, const GroupNormShape& z) {
  for (int64_t at = 0; at < z.b * z.groups; ++at) {
    const Group group(x, z, at / z.groups, at % z.groups);
    ForGroup(z, at / z.groups, at % z.groups, [&](int64_t i) {
      const double a = (x[i] - group.mean) / group.deviation * weight[i % z.c] + bias[i % z.c];
      y[i] = z.silu ? a / (1 + std::exp(-a)) : a;
    });
  }
}

void GroupNormGrad(double* dx, double* dweight, double* dbias, const double* dy, const double* x, const double* weight,
                   const double* bias, const GroupNormShape& z) {
  std::fill_n(dweight, z.c, 0.0);
  std::fill_n(dbias, z.c, 0.0);
  for (int64_t at = 0; at < z.b * z.groups; ++at) {
    const Group group(x, z, at / z.groups, at % z.groups);
    double sum = 0, along = 0;
    ForGroup(z, at / z.groups, at % z.groups, [&](int64_t i) {
      const double n = (x[i] - group.mean) / group.deviation, a = n * weight[i % z.c] + bias[i % z.c];
      const double gate = 1 / (1 + std::exp(-a)), da = z.silu ? dy[i] * (gate + a * gate * (1 - gate)) : dy[i];
      dbias[i % z.c] += da;
      dweight[i % z.c] += da * n;
      dx[i] = da * weight[i % z.c];
      sum += dx[i];
      along += dx[i] * n;
    });
    ForGroup(z, at / z.groups, at % z.groups, [&](int64_t i) {
      const double n = (x[i] - group.mean) / group.deviation;
      dx[i] = (dx[i] - sum / group.n - n * along / group.n) / group.deviation;
    });
  }
}

}  // namespace angel_ptm::reference
