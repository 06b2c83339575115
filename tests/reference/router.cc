#include "tests/reference/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace angel_ptm::reference {

void Router(double* weights, double* probs, int32_t* experts, int32_t* counts, const double* x, const double* gate,
            int64_t t, int64_t h, int64_t e, int64_t k) {
  for (int64_t j = 0; j < e; ++j) counts[j] = 0;
  for (int64_t i = 0; i < t; ++i) {
    std::vector<double> logits(e);
    for (int64_t j = 0; j < e; ++j) {
      for (int64_t l = 0; l < h; ++l) logits[j] += x[i * h + l] * gate[j * h + l];
    }
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (int64_t j = 0; j < e; ++j) sum += std::exp(logits[j] - highest);
    for (int64_t j = 0; j < e; ++j) probs[i * e + j] = std::exp(logits[j] - highest) / sum;

    std::vector<int32_t> order(e);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return probs[i * e + a] > probs[i * e + b]; });
    double chosen = 0;
    for (int64_t c = 0; c < k; ++c) chosen += probs[i * e + order[c]];
    for (int64_t c = 0; c < k; ++c) {
      experts[i * k + c] = order[c];
      weights[i * k + c] = probs[i * e + order[c]] / chosen;
      ++counts[order[c]];
    }
  }
}

void RouterGrad(double* dx, double* dgate, const double* dweights, const double* weights, const double* probs,
                const int32_t* experts, const int32_t* counts, const double* x, const double* gate, int64_t t,
                int64_t h, int64_t e, int64_t k, double aux_scale) {
  std::fill(dx, dx + t * h, 0.0);
  std::fill(dgate, dgate + e * h, 0.0);
  const double tokens = static_cast<double>(t);
  for (int64_t i = 0; i < t; ++i) {
    std::vector<double> dprobs(e);
    for (int64_t j = 0; j < e; ++j) {
      dprobs[j] = aux_scale * static_cast<double>(e) * counts[j] / (tokens * static_cast<double>(k)) / tokens;
    }
    double chosen = 0, mean = 0, dot = 0;
    for (int64_t c = i * k; c < (i + 1) * k; ++c) {
      chosen += probs[i * e + experts[c]];
      mean += dweights[c] * weights[c];
    }
    for (int64_t c = i * k; c < (i + 1) * k; ++c) dprobs[experts[c]] += (dweights[c] - mean) / chosen;
    for (int64_t j = 0; j < e; ++j) dot += probs[i * e + j] * dprobs[j];
    for (int64_t j = 0; j < e; ++j) {
      const double dlogit = probs[i * e + j] * (dprobs[j] - dot);
      for (int64_t l = 0; l < h; ++l) {
        dx[i * h + l] += dlogit * gate[j * h + l];
        dgate[j * h + l] += dlogit * x[i * h + l];
      }
    }
  }
}

double LoadBalancingLoss(const double* probs, const int32_t* counts, int64_t t, int64_t e, int64_t k) {
  double loss = 0;
  for (int64_t j = 0; j < e; ++j) {
    double mean = 0;
    for (int64_t i = 0; i < t; ++i) mean += probs[i * e + j] / static_cast<double>(t);
    loss += static_cast<double>(e) * counts[j] / static_cast<double>(t * k) * mean;
  }
  return loss;
}

}  // namespace angel_ptm::reference
