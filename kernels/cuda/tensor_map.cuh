// Maps of matrices for tensor copies (TMA), made on the host.
#ifndef ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_
#define ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_

#include "kernels/cuda/matrix.cuh"

#ifndef ANGEL_PTM_CUDA_EMULATED
#include <cstdio>
#include <cstdlib>
#endif

namespace angel_ptm::cuda {

// Boxes of box_columns (128 bytes at most) x box_rows, with the 128-byte swizzle; what is outside reads as zero. The
// matrix is aligned. That the driver refuses a map is a bug: shapes were checked before.
inline TensorMap MapOf(const Matrix<BFloat16>& matrix, std::uint32_t box_columns, std::uint32_t box_rows) {
  TensorMap map;
#ifdef ANGEL_PTM_CUDA_EMULATED
  const std::uint64_t extent[] = {static_cast<std::uint64_t>(matrix.columns), static_cast<std::uint64_t>(matrix.rows)};
  const std::uint64_t stride_bytes[] = {static_cast<std::uint64_t>(matrix.stride) * sizeof(BFloat16)};
  const std::uint32_t box[] = {box_columns, box_rows};
  emulated::EncodeTensorMap(&map, matrix.data, sizeof(BFloat16), 2, extent, stride_bytes, box);
#else
  // By its entry point, so that the program starts where there is no driver.
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned kVersion = 12000;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kVersion, cudaEnableDefault, &found);
  CUresult result = CUDA_ERROR_NOT_FOUND;
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess) {
    const cuuint64_t extent[] = {static_cast<cuuint64_t>(matrix.columns), static_cast<cuuint64_t>(matrix.rows)};
    const cuuint64_t stride_bytes[] = {static_cast<cuuint64_t>(matrix.stride) * sizeof(BFloat16)};
    const cuuint32_t box[] = {box_columns, box_rows}, steps[] = {1, 1};
    result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry)(
        &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<BFloat16*>(matrix.data), extent, stride_bytes, box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  if (result != CUDA_SUCCESS) {
    std::fprintf(stderr, "a tensor map could not be made: error %d of the driver\n", static_cast<int>(result));
    std::abort();
  }
#endif
  return map;
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_
