#include "tests/reference/hybrid_loss.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace angel_ptm::reference {
namespace {

// (1 + tanh(y)) / 2 in a form that keeps its digits in the lower tail.
double ApproximateNormal(double z) {
  return 1 / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * std::pow(z, 3))));
}

// A term of the bound for an error of p and a fraction v.
double Term(const double* of, double error, double v, double clean) {
  const double least = of[1], most = of[1] + of[2], fraction = (v + 1) / 2;
  const double log_variance = fraction * most + (1 - fraction) * least, of_mean = of[3] * error;
  return of[4] == 0 ? NormalDivergence(0, least, of_mean, log_variance)
                    : DecodedNats(clean, clean + of_mean, log_variance);
}

}  // namespace

double NormalDivergence(double mean1, double log_variance1, double mean2, double log_variance2) {
  return 0.5 * (-1 + log_variance2 - log_variance1 + std::exp(log_variance1 - log_variance2) +
                std::pow(mean1 - mean2, 2) * std::exp(-log_variance2));
}

double DecodedNats(double x, double mean, double log_variance) {
  const double deviation = std::exp(0.5 * log_variance), half_bin = 1.0 / 255;
  const double to = (x - mean + half_bin) / deviation, from = (x - mean - half_bin) / deviation;
  // The upper tail is computed as the lower one, since the distribution is symmetric.
  const double inner =
      from > 0 ? ApproximateNormal(-from) - ApproximateNormal(-to) : ApproximateNormal(to) - ApproximateNormal(from);
  const double probability = x < -0.999 ? ApproximateNormal(to) : x > 0.999 ? ApproximateNormal(-from) : inner;
  return -std::log(std::max(probability, 1e-12));
}

void HybridLoss(double* squared, double* bound, double* dx, const double* x, const double* target, const double* clean,
                const double* weight, const double* coefficients, int64_t b, int64_t r, int64_t c) {
  constexpr double kStep = 1e-2;
  const auto n = static_cast<double>(r * c);
  for (int64_t sample = 0; sample < b; ++sample) {
    const double* const of = coefficients + 5 * sample;
    squared[sample] = bound[sample] = 0;
    for (int64_t i = sample * r * c; i < (sample + 1) * r * c; ++i) {
      const int64_t p = i / c * 2 * c + i % c, v = p + c;
      const double error = x[p] - target[i];
      squared[sample] += weight[sample] * error * error / n;
      bound[sample] += of[0] * Term(of, error, x[v], clean[i]) / n;
      dx[p] = 2 * weight[sample] * error / n;
      const auto at = [&](double step) { return Term(of, error, x[v] + step, clean[i]); };
      const double slope = (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep);
      dx[v] = of[0] * slope / n;
    }
  }
}

}  // namespace angel_ptm::reference
