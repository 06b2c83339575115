#include "tests/reference/adamw.h"

#include <cmath>

namespace angel_ptm::reference {

void AdamW(double* param, double* m, double* v, double grad, int64_t t, double learning_rate, double beta1,
           double beta2, double epsilon, double weight_decay) {
  *m = beta1 * *m + (1 - beta1) * grad;
  *v = beta2 * *v + (1 - beta2) * grad * grad;
  const double m_hat = *m / (1 - std::pow(beta1, static_cast<double>(t)));
  const double v_hat = *v / (1 - std::pow(beta2, static_cast<double>(t)));
  *param -= learning_rate * (m_hat / (std::sqrt(v_hat) + epsilon) + weight_decay * *param);
}

}  // namespace angel_ptm::reference
