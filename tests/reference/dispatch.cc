#include "tests/reference/dispatch.h"

namespace angel_ptm::reference {

void Dispatch(double* rows, const double* x, const int32_t* pair_of_row, int64_t rows_count, int64_t h, int64_t k) {
  for (int64_t r = 0; r < rows_count; ++r) {
    for (int64_t i = 0; i < h; ++i) rows[r * h + i] = pair_of_row[r] < 0 ? 0 : x[pair_of_row[r] / k * h + i];
  }
}

void DispatchGrad(double* dx, const double* drows, const int32_t* pair_of_row, int64_t rows_count, int64_t t, int64_t h,
                  int64_t k) {
  for (int64_t i = 0; i < t * h; ++i) dx[i] = 0;
  for (int64_t r = 0; r < rows_count; ++r) {
    if (pair_of_row[r] < 0) continue;
    for (int64_t i = 0; i < h; ++i) dx[pair_of_row[r] / k * h + i] += drows[r * h + i];
  }
}

}  // namespace angel_ptm::reference
