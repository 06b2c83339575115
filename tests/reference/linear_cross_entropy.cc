#include "tests/reference/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace angel_ptm::reference {

void LinearCrossEntropy(double* token_loss, double* dx, double* dweight, const double* x, const double* weight,
                        const int32_t* targets, int64_t t, int64_t h, int64_t v) {
  if (dx != nullptr) {
    std::fill_n(dx, t * h, 0.0);
    std::fill_n(dweight, v * h, 0.0);
  }
  for (int64_t i = 0; i < t; ++i) {
    token_loss[i] = 0;
    if (targets[i] < 0) continue;
    std::vector<double> logits(v);
    for (int64_t j = 0; j < v; ++j) {
      for (int64_t l = 0; l < h; ++l) logits[j] += x[i * h + l] * weight[j * h + l];
    }
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (int64_t j = 0; j < v; ++j) sum += std::exp(logits[j] - highest);
    token_loss[i] = std::log(sum) + highest - logits[targets[i]];
    if (dx == nullptr) continue;
    for (int64_t j = 0; j < v; ++j) {
      const double d = std::exp(logits[j] - highest) / sum - (j == targets[i] ? 1 : 0);
      for (int64_t l = 0; l < h; ++l) {
        dx[i * h + l] += d * weight[j * h + l];
        dweight[j * h + l] += d * x[i * h + l];
      }
    }
  }
}

}  // namespace angel_ptm::reference
