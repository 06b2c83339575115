#include "tests/reference/combine.h"

namespace angel_ptm::reference {

void Combine(double* y, const double* base, const double* rows, const double* weights, const int32_t* pair_of_row,
             int64_t rows_count, int64_t t, int64_t h, int64_t k) {
  for (int64_t i = 0; i < t * h; ++i) y[i] = base == nullptr ? 0 : base[i];
  for (int64_t r = 0; r < rows_count; ++r) {
    const int32_t pair = pair_of_row[r];
    if (pair < 0) continue;
    for (int64_t i = 0; i < h; ++i) y[pair / k * h + i] += weights[pair] * rows[r * h + i];
  }
}

}  // namespace angel_ptm::reference
