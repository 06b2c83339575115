// Moves tokens to expert rows, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_DISPATCH_H_
#define ANGEL_PTM_TESTS_REFERENCE_DISPATCH_H_

#include <cstdint>

namespace angel_ptm::reference {

// rows[r] = x[pair_of_row[r] / K], zero where pair_of_row[r] < 0. x is [T,H], rows [rows_count,H].
void Dispatch(double* rows, const double* x, const int32_t* pair_of_row, int64_t rows_count, int64_t h, int64_t k);

// dx[t] = the sum over the rows that hold a pair of t.
void DispatchGrad(double* dx, const double* drows, const int32_t* pair_of_row, int64_t rows_count, int64_t t, int64_t h,
                  int64_t k);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_DISPATCH_H_
