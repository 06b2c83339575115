// Matrix products for the host backend. The only file that knows OpenBLAS is gemm.cc.
#ifndef ANGEL_PTM_KERNELS_CPU_GEMM_H_
#define ANGEL_PTM_KERNELS_CPU_GEMM_H_

#include <cstdint>

namespace angel_ptm {

// Row-major c[m,n] (+)= op(a) op(b), with row strides in elements. op(a) is [m,k]: a is [m,k], or [k,m] if trans_a;
// likewise b is [k,n], or [n,k] if trans_b.
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int64_t lda = 0;
  bool trans_a = false;
  const float* b = nullptr;
  int64_t ldb = 0;
  bool trans_b = false;
  float* c = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;
};

// On the calling thread alone, inside or outside a parallel region. Products of few rows with a transposed b, as in
// decoding, bypass the library (few_rows.h).
void SerialGemm(const Gemm& gemm);

// On `threads` threads: c is cut into a fixed grid of one tile per thread, each computed by SerialGemm. The library's
// own threading is not used because it changes process-wide state, and ranks with different thread counts may share a
// process.
void ParallelGemm(int threads, const Gemm& gemm);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_GEMM_H_
