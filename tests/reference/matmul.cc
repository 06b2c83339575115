#include "tests/reference/matmul.h"

namespace angel_ptm::reference {

void Matmul(double* c, const double* a, const double* b, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l)
        sum += (trans_a ? a[l * m + i] : a[i * k + l]) * (trans_b ? b[j * k + l] : b[l * n + j]);
      c[i * n + j] = sum;
    }
  }
}

}  // namespace angel_ptm::reference
