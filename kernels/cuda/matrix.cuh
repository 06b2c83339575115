// Operands and results of matrix products, and the products themselves as other ops launch them. A block computes a
// tile of 128 x 128 by MultiplyTile: of bf16 on the tensor cores (matmul_tiles.cuh), of fp32 by FMA (fma_tiles.cuh).
#ifndef ANGEL_PTM_KERNELS_CUDA_MATRIX_CUH_
#define ANGEL_PTM_KERNELS_CUDA_MATRIX_CUH_

#include <cstddef>

#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/operand.h"

namespace angel_ptm::cuda {

inline constexpr int kMatmulThreads = 256, kMatmulTile = 128;
// Blocks that an SM of sm_80 and later holds at a time.
inline constexpr int kMatmulBlocks = 2;
template <typename T>
inline constexpr std::size_t kMatmulSharedBytes = 0;  // dynamic shared memory of products of T

// A matrix as stored; elements outside of it count as zero.
template <typename T>
struct Matrix {
  const T* data;
  std::int64_t rows, columns, stride;  // stride: elements from row to row
  bool is_aligned;                     // to 16 bytes, as is every row
};
template <typename T>
Matrix<T> MatrixOf(const ConstOperand& operand, std::int64_t rows, std::int64_t columns) {
  return {operand.as<T>(), rows, columns, columns, columns % kChunkOf<T> == 0};
}

// Rows [row_begin, row_end) and columns below `columns` are stored. Aligned to 16 bytes.
struct Result {
  void* data;
  std::int64_t row_begin, row_end, columns;
  bool is_bf16, accumulate;
};
inline Result ResultOf(const Operand& operand, std::int64_t rows, std::int64_t columns, bool accumulate) {
  return {operand.data, 0, rows, columns, operand.dtype == DType::kBFloat16, accumulate};
}

// Stores two neighbours, of which the second may be outside.
template <typename T>
APTM_DEVICE void StorePair(T* at, float first, float second, bool has_second, bool accumulate) {
  StoreRounded(at, accumulate ? Widened(at[0]) + first : first);
  if (has_second) StoreRounded(at + 1, accumulate ? Widened(at[1]) + second : second);
}

// c (+)= op(a) op(b), over k of [0, k), tile by tile (matmul.cu), for T = bf16 or fp32; c of fp32 operands is fp32.
template <typename T>
void LaunchProduct(const Result& c, const Matrix<T>& a, bool trans_a, const Matrix<T>& b, bool trans_b, std::int64_t k,
                   const LaunchContext& context);

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_MATRIX_CUH_
