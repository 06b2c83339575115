// A weight of 1 MiB or less comes from the caches, so loads are the bottleneck: one of b for the multiply-adds of kRows
// rows, two loads per cycle. Eight or more sums hide the latency of an addition.
#include "kernels/cpu/few_rows.h"

#include "kernels/cpu/bf16.h"

namespace angel_ptm {
namespace {

// The sum of all lanes, in an order fixed by the number of lanes.
[[gnu::always_inline]] inline float Across(Vector all) {
  all += __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  all += __builtin_shufflevector(all, all, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  all += __builtin_shufflevector(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += __builtin_shufflevector(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return all[0];
}

// Columns [j, j + kColumns) of all rows.
template <int kRows, int kColumns>
void Multiply(const Gemm& g, int64_t j) {
  Vector sum[kRows][kColumns] = {};
  const auto add = [&](auto load) __attribute__((always_inline)) {
    Vector a[kRows];
    for (int r = 0; r < kRows; ++r) load(a[r], g.a + r * g.lda);
    for (int c = 0; c < kColumns; ++c) {
      Vector b;
      load(b, g.b + (j + c) * g.ldb);
      for (int r = 0; r < kRows; ++r) sum[r][c] += a[r] * b;
    }
  };
  int64_t k = 0;
  for (; k + kVectorLanes <= g.k; k += kVectorLanes) {
    add([k](Vector & to, const float* row) __attribute__((always_inline)) { LoadVector(to, row + k); });
  }
  if (k < g.k) add([k, &g](Vector& to, const float* row) { LoadLanes(to, row, k, g.k); });
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      float& to = g.c[r * g.ldc + j + c];
      const float dot = Across(sum[r][c]);
      to = g.accumulate ? to + dot : dot;
    }
  }
}

template <int kRows>
void MultiplyRows(const Gemm& g) {
  constexpr int kColumns = kRows <= 2 ? 8 : 4;
  int64_t j = 0;
  for (; j + kColumns <= g.n; j += kColumns) Multiply<kRows, kColumns>(g, j);
  for (; j < g.n; ++j) Multiply<kRows, 1>(g, j);
}

}  // namespace

void MultiplyFewRows(const Gemm& gemm) {
  static_assert(kFewRows == 4);
  static constexpr void (*kMultiply[])(const Gemm&) = {&MultiplyRows<1>, &MultiplyRows<2>, &MultiplyRows<3>,
                                                       &MultiplyRows<4>};
  if (gemm.m > 0) kMultiply[gemm.m - 1](gemm);
}

}  // namespace angel_ptm
