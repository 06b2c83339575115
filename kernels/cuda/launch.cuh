// How kernels are launched, on a stream or emulated. There is no <<<>>> in the tree.
#ifndef ANGEL_PTM_KERNELS_CUDA_LAUNCH_CUH_
#define ANGEL_PTM_KERNELS_CUDA_LAUNCH_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/language.cuh"

#ifndef ANGEL_PTM_CUDA_EMULATED
#include <cstdio>
#include <cstdlib>
#endif

namespace angel_ptm::cuda {

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};
struct LaunchShape {
  Extent grid, block;
  std::size_t shared_bytes = 0;  // dynamic
  int cluster = 1;               // blocks of a cluster, adjacent in x
  int registers = 0;             // of a thread at launch, as in the resource table; for kernels with setmaxnreg
};

// Blocks of `threads` threads for n items, one item per thread, but at most a few waves of blocks: kernels stride by
// the grid.
inline LaunchShape Striding(std::int64_t n, unsigned threads) {
  constexpr std::int64_t kBlocksMax = 132 * 16;
  const std::int64_t blocks = (n + threads - 1) / threads;
  return {.grid = {.x = static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax)}, .block = {.x = threads}};
}

// Fixed arrays and dynamic shared memory have 48 KB together unless a launch asks for more. The arrays, with the gap in
// front of the dynamic part, take less than kArraysBytesMax, as ptxas reports.
inline constexpr std::size_t kUnaskedSharedBytes = 48 << 10, kArraysBytesMax = 16 << 10;
inline bool AsksForShared(const LaunchShape& shape) {
  return shape.shared_bytes > kUnaskedSharedBytes - kArraysBytesMax;
}

#ifndef ANGEL_PTM_CUDA_EMULATED
// Whether a launch returns an error of earlier work: the GPU or the capture has failed. Every later call returns it,
// too, so it is reported by whoever waits for that work (memory/device.h).
inline bool IsOfFormerWork(cudaError_t error) {
  constexpr int kContained = 226;  // cudaErrorContained, missing from early 12.x
  switch (static_cast<int>(error)) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case kContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorExternalDevice:
    case cudaErrorStreamCaptureInvalidated:
      return true;
    default:
      return false;
  }
}
#endif

// Launches nothing if the grid is empty. A refused launch is a bug, because shapes were checked before.
template <typename... Parameters, typename... Arguments>
void Launch(const LaunchShape& shape, const LaunchContext& context, void (*kernel)(Parameters...),
            Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
#ifdef ANGEL_PTM_CUDA_EMULATED
  static_cast<void>(context);
  emulated::Run({.grid = {shape.grid.x, shape.grid.y, shape.grid.z},
                 .block = {shape.block.x, shape.block.y, shape.block.z},
                 .shared_bytes = shape.shared_bytes,
                 .asks_for_shared = AsksForShared(shape),
                 .cluster = shape.cluster,
                 .registers = shape.registers},
                [&] { kernel(static_cast<Parameters>(arguments)...); });
#else
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  config.blockDim = dim3(shape.block.x, shape.block.y, shape.block.z);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(context.stream);
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  cudaError_t error = cudaSuccess;
  if (AsksForShared(shape)) {
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes));
  }
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  if (error == cudaSuccess || IsOfFormerWork(error)) return;
  std::fprintf(stderr, "a CUDA kernel could not be launched: %s\n", cudaGetErrorString(error));
  std::abort();
#endif
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_LAUNCH_CUH_
