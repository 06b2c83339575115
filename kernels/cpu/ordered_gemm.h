// Single-thread matrix products whose every element is one chain of multiply-adds over k in increasing order, whatever
// the shape around it. So an element's bits depend only on its row of a and its column of b: not on m, n, the tile it
// falls into, or how rows are split over calls. The expert products need this, and they need speed with few rows per
// matrix.
#ifndef ANGEL_PTM_KERNELS_CPU_ORDERED_GEMM_H_
#define ANGEL_PTM_KERNELS_CPU_ORDERED_GEMM_H_

#include <cstdint>

namespace angel_ptm {

// c[m,n] = sum_k a(i,k) b(k,j); if accumulate, the chains start from the values in c. Strides are in elements; c is
// row-major. Any extent may be 0; a sum over an empty k is 0.
struct OrderedGemmArgs {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int64_t a_row_stride = 0, a_k_stride = 0;  // one of them is 1
  const float* b = nullptr;                  // [k,n] with row stride ldb, or [n,k] if trans_b
  int64_t ldb = 0;
  bool trans_b = false;
  float* c = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;
};
// Uses up to 0.8 MB of stack.
void OrderedGemm(const OrderedGemmArgs& args);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_ORDERED_GEMM_H_
