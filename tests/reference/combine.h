// Weighted sum of expert rows back to tokens, fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_COMBINE_H_
#define ANGEL_PTM_TESTS_REFERENCE_COMBINE_H_

#include <cstdint>

namespace angel_ptm::reference {

// y[t] = base[t] + sum over the rows r of t's pairs of weights[pair] * rows[r]. base may be null: zero.
void Combine(double* y, const double* base, const double* rows, const double* weights, const int32_t* pair_of_row,
             int64_t rows_count, int64_t t, int64_t h, int64_t k);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_COMBINE_H_
