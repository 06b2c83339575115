#include "tests/reference/grouped_matmul.h"

namespace angel_ptm::reference {

void GroupedMatmul(double* c, const double* a, const double* b, const int32_t* block_expert, int64_t blocks,
                   int64_t block_rows, int64_t n, int64_t k, bool trans_b) {
  for (int64_t r = 0; r < blocks * block_rows; ++r) {
    const double* w = b + block_expert[r / block_rows] * n * k;
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += a[r * k + l] * (trans_b ? w[j * k + l] : w[l * n + j]);
      c[r * n + j] = sum;
    }
  }
}

void GroupedMatmulGradWeight(double* dw, const double* dy, const double* x, const int32_t* block_expert, int64_t blocks,
                             int64_t block_rows, int64_t n, int64_t k, int64_t e) {
  for (int64_t i = 0; i < e * n * k; ++i) dw[i] = 0;
  for (int64_t r = 0; r < blocks * block_rows; ++r) {
    double* w = dw + block_expert[r / block_rows] * n * k;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t l = 0; l < k; ++l) w[j * k + l] += dy[r * n + j] * x[r * k + l];
    }
  }
}

}  // namespace angel_ptm::reference
