// Writes the sums of MultiplyPanels (bf16_panels.h) to the elements of a product's result.
#ifndef ANGEL_PTM_KERNELS_CPU_SUMS_OF_PRODUCTS_H_
#define ANGEL_PTM_KERNELS_CPU_SUMS_OF_PRODUCTS_H_

#include <cstdint>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/bf16_panels.h"

namespace angel_ptm {

// y[0 .. kTileColumns) = sums of MultiplyPanels, rounded to T. Where the processor multiplies pairs, no sum is
// subnormal, so its own conversion has ToBFloat16's bits.
template <typename T>
inline void StoreSums(T* y, const float* sums) {
  Vector sum;
#pragma GCC unroll 2
  for (int64_t i = 0; i < kTileColumns; i += kVectorLanes) {
    LoadVector(sum, sums + i);
    StoreVector(y + i, sum);
  }
}
#if defined(__AVX512BF16__)
template <>
inline void StoreSums(BFloat16* y, const float* sums) {
  static_assert(kTileColumns == 32);
  _mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(sums + 16), _mm512_loadu_ps(sums)));
}
#endif

// c (+)= sums, for the first `rows` rows and `columns` columns of a tile.
template <typename T>
inline void Finish(T* c, int64_t ldc, const float* sums, int64_t rows, int64_t columns, bool accumulate) {
  Vector sum, before;
  if (!accumulate && columns == kTileColumns && kTileColumns % kVectorLanes == 0) {
    for (int64_t row = 0; row < rows; ++row, c += ldc, sums += kTileColumns) StoreSums(c, sums);
    return;
  }
  for (int64_t row = 0; row < rows; ++row, c += ldc, sums += kTileColumns) {
    for (int64_t i = 0; i < columns; i += kVectorLanes) {
      LoadLanes(sum, sums, i, columns);
      if (accumulate) {
        LoadLanes(before, c, i, columns);
        sum = before + sum;
      }
      StoreLanes(c, sum, i, columns);
    }
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_SUMS_OF_PRODUCTS_H_
