// Products of bf16 matrices. Every element is one chain over k (bf16_panels.h): its bits depend only on its row of
// op(a), its column of op(b) and k, not on m, n, threads or neighbouring elements.
#ifndef ANGEL_PTM_KERNELS_CPU_BF16_PRODUCT_H_
#define ANGEL_PTM_KERNELS_CPU_BF16_PRODUCT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/bf16.h"
#include "kernels/operand.h"

namespace angel_ptm {

// Row-major c[m,n] (+)= op(a) op(b), with row strides in elements. op(a) is [m,k]: a is [m,k], or [k,m] if trans_a;
// likewise b is [k,n], or [n,k] if trans_b. c is fp32 or bf16 by its dtype. With accumulate, c and the sum are added in
// fp32; the result is rounded once. All extents are at least 1.
struct Bf16Product {
  int64_t m = 0, n = 0, k = 0;
  const BFloat16* a = nullptr;
  int64_t lda = 0;
  bool trans_a = false;
  const BFloat16* b = nullptr;
  int64_t ldb = 0;
  bool trans_b = false;
  Operand c;
  int64_t ldc = 0;
  bool accumulate = false;
};

// Bytes of scratch memory for a product of these extents; enough for any product of smaller extents. At most 8 MiB, or
// what 128 columns of op(b) take in fp32, and 0.5 MiB per thread.
int64_t Bf16ProductWorkspace(int64_t m, int64_t n, int64_t k, int threads);

// Runs on a team of `threads`; with threads == 1, on the calling thread. The workspace is 64-byte aligned.
void MultiplyBf16(int threads, const Bf16Product& product, std::byte* workspace);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_BF16_PRODUCT_H_
