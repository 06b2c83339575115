// Uses every helper of ptx.cuh in one kernel, so that the assembly of helpers that no kernel uses yet is compiled.
// Never launched.
#include "kernels/cuda/ptx.cuh"

namespace angel_ptm::cuda {

__global__ void __launch_bounds__(256, 1) Probe80(float* y, const std::uint16_t* x) {
  APTM_SHARED(uint4, shared, 256);
  const std::uint32_t at = ptx::SharedAddress(shared + threadIdx.x);
  ptx::CopyAsync16(at, x + threadIdx.x * 8, threadIdx.x < 200);
  ptx::CopyAsyncCommit();
  ptx::CopyAsyncWait<0>();
  ptx::BarrierArrive(1, 256);
  ptx::BarrierSync(2, 256);
  std::uint32_t a[4], b[4];
  ptx::LoadMatrix4(a, at);
  ptx::LoadMatrix4Transposed(b, at);
  float d[4] = {};
  const std::uint32_t pair[2] = {b[0], b[1]};
  ptx::MultiplyBf16(d, a, pair);
  y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
APTM_DEVICE float Wgmmas(std::uint32_t at, const std::uint32_t (&a)[4]) {
  const std::uint64_t descriptor = ptx::WgmmaDescriptor(at, 16, 1024);
  float narrow[32], wide[64], sum = 0;
  ptx::WgmmaFence();
  ptx::WgmmaM64N64<0, 1>(narrow, descriptor, descriptor, false);
  ptx::WgmmaM64N64<0>(narrow, a, descriptor, true);
  ptx::WgmmaM64N128<1, 0>(wide, descriptor, descriptor, false);
  ptx::WgmmaCommit();
  ptx::WgmmaWait<0>();
  APTM_UNROLL for (int i = 0; i < 32; ++i) sum += narrow[i];
  APTM_UNROLL for (int i = 0; i < 64; ++i) sum += wide[i];
  return sum;
}

__global__ void __launch_bounds__(256, 1) Probe90(float* y, const __grid_constant__ TensorMap map) {
  APTM_DYNAMIC_SHARED(shared);
  const std::uint32_t at = ptx::SharedAddress(shared), barrier = at + 65536;
  if (threadIdx.x == 0) {
    ptx::MbarrierInit(barrier, 1);
    ptx::FenceMbarrierInit();
    ptx::MbarrierArriveExpect(barrier, 16384);
    ptx::TensorLoad2d(at, &map, barrier, 0, 64);
    ptx::TensorLoad3d(at + 8192, &map, barrier, 0, 64, 1);
    ptx::MbarrierArrive(barrier);
  }
  __syncthreads();
  ptx::MbarrierWait(barrier, 0);
  if (threadIdx.x < 128) {
    ptx::LowerRegisters<40>();
    ptx::FenceProxyAsync();
    ptx::TensorStore2d(&map, at, 0, 0);
    ptx::BulkCommit();
    ptx::BulkWaitRead<0>();
  } else {
    ptx::RaiseRegisters<216>();
    const std::uint32_t a[4] = {threadIdx.x, 1, 2, 3};
    y[threadIdx.x] = Wgmmas(at, a);
  }
  ptx::ClusterSync();
  y[0] += ptx::LoadShared(ptx::MapShared(at, ptx::ClusterRank() ^ 1));
}
#endif

}  // namespace angel_ptm::cuda
