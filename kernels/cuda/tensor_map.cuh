// Maps of matrices for tensor copies (TMA), made on the host.
#ifndef ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_
#define ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_

#include "kernels/cuda/matrix.cuh"

#ifndef ANGEL_PTM_CUDA_EMULATED
#include <cstdio>
#include <cstdlib>
#endif

namespace angel_ptm::cuda {

// The map of a bf16 array. Extents and boxes are listed innermost first; stride_bytes starts with the second dimension.
// Boxes lie in shared memory with the 128-byte swizzle, so their rows have at most 128 bytes. Elements outside the
// array read as zero and are not written. The array and its rows are aligned to 16 bytes. If the driver refuses a map,
// that is a bug: shapes were checked.
template <int kRank>
TensorMap MapOf(const BFloat16* data, const std::uint64_t (&extent)[kRank],
                const std::uint64_t (&stride_bytes)[kRank - 1], const std::uint32_t (&box)[kRank]) {
  TensorMap map;
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::EncodeTensorMap(&map, data, sizeof(BFloat16), kRank, extent, stride_bytes, box);
#else
  // Looked up at run time, so that the program starts on machines without a driver.
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned kVersion = 12000;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kVersion, cudaEnableDefault, &found);
  CUresult result = CUDA_ERROR_NOT_FOUND;
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess) {
    cuuint64_t extents[kRank], strides[kRank - 1];
    cuuint32_t boxes[kRank], steps[kRank];
    for (int i = 0; i < kRank; ++i) {
      extents[i] = extent[i], boxes[i] = box[i], steps[i] = 1;
      if (i > 0) strides[i - 1] = stride_bytes[i - 1];
    }
    result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry)(
        &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank, const_cast<BFloat16*>(data), extents, strides, boxes, steps,
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

// The map of a matrix, in boxes of box_columns x box_rows.
inline TensorMap MapOf(const Matrix<BFloat16>& matrix, std::uint32_t box_columns, std::uint32_t box_rows) {
  return MapOf<2>(matrix.data, {static_cast<std::uint64_t>(matrix.columns), static_cast<std::uint64_t>(matrix.rows)},
                  {static_cast<std::uint64_t>(matrix.stride) * sizeof(BFloat16)}, {box_columns, box_rows});
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_TENSOR_MAP_CUH_
