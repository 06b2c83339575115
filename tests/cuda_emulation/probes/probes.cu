#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/probes/probes.h"

namespace angel_ptm::emulated {
namespace {

namespace ptx = cuda::ptx;
using cuda::TensorMap;

constexpr int kTile = 64, kRowBytes = 128;
constexpr std::uint32_t kTileBytes = kTile * kRowBytes;

// Rows of 64 elements with the 128-byte swizzle.
APTM_DEVICE void FillTile(unsigned char* to, const BFloat16* from, int stride) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += 128) {
    const int row = i / kTile, column = i % kTile * 2;
    *reinterpret_cast<std::uint16_t*>(to + row * kRowBytes + (column ^ row % 8 * 16)) =
        from[row * stride + i % kTile].bits;
  }
}

template <int kTransA, int kTransB, bool kRegisters, int kN>
__global__ void WgmmaProbe(float* c, const BFloat16* a, const BFloat16* b) {
  APTM_DYNAMIC_SHARED(shared);
  const std::uint32_t pad = (1024 - ptx::SharedAddress(shared) % 1024) % 1024;
  unsigned char* const tiles = shared + pad;
  FillTile(tiles, a, kTile);
  for (int half = 0; half < kN / kTile; ++half) FillTile(tiles + (1 + half) * kTileBytes, b + half * kTile, kN);
  ptx::FenceProxyAsync();
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const std::uint32_t a_at = ptx::SharedAddress(tiles), b_at = a_at + kTileBytes;
  float d[kN / 2];
  std::uint32_t fragment[4][4];
  for (std::uint32_t k = 0; k < 4 && kRegisters; ++k) {
    const std::uint32_t row = static_cast<std::uint32_t>(warp * 16 + lane % 16), chunk = k * 2 + lane / 16;
    ptx::LoadMatrix4(fragment[k], a_at + row * kRowBytes + (chunk ^ row % 8) * 16);
  }
  ptx::WgmmaFence();
  for (std::uint32_t k = 0; k < 4; ++k) {
    const std::uint64_t a_tile = kTransA ? ptx::WgmmaDescriptor(a_at + k * 2048, kTileBytes, 1024)
                                         : ptx::WgmmaDescriptor(a_at + k * 32, 16, 1024);
    const std::uint64_t b_tile = kTransB ? ptx::WgmmaDescriptor(b_at + k * 2048, kTileBytes, 1024)
                                         : ptx::WgmmaDescriptor(b_at + k * 32, 16, 1024);
    if constexpr (kN == 128) {
      ptx::WgmmaM64N128<kTransA, kTransB>(d, a_tile, b_tile, k > 0);
    } else if constexpr (kRegisters) {
      ptx::WgmmaM64N64<kTransB>(d, fragment[k], b_tile, k > 0);
    } else {
      ptx::WgmmaM64N64<kTransA, kTransB>(d, a_tile, b_tile, k > 0);
    }
  }
  ptx::WgmmaCommit();
  ptx::WgmmaWait<0>();
  for (int i = 0; i < kN / 2; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    c[row * kN + column] = d[i];
  }
}

__global__ void BoxProbe(float* y, const __grid_constant__ TensorMap map, BoxAt box) {
  APTM_DYNAMIC_SHARED(shared);
  const std::uint32_t pad = (1024 - ptx::SharedAddress(shared) % 1024) % 1024;
  const unsigned char* const tile = shared + pad;
  const std::uint32_t at = ptx::SharedAddress(tile), barrier = at + 1024;
  if (threadIdx.x == 0) {
    ptx::MbarrierInit(barrier, 1);
    ptx::FenceMbarrierInit();
    ptx::MbarrierArriveExpect(barrier, 1024);
    ptx::TensorLoad3d(at, &map, barrier, box.x, box.y, box.z);
  }
  __syncthreads();
  ptx::MbarrierWait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < 512; i += 32) {
    const int row = i / 64, column = i % 64 * 2;
    const BFloat16 value = {*reinterpret_cast<const std::uint16_t*>(tile + row * kRowBytes + (column ^ row % 8 * 16))};
    y[i] = cuda::Widened(value);
  }
}

__global__ void ShuffleProbe(std::uint32_t* y) {
  const std::uint32_t lane = threadIdx.x;
  const std::uint32_t values[kShuffles] = {
      __shfl_sync(~0u, lane, 35),
      __shfl_sync(~0u, lane, 3, 8),
      __shfl_up_sync(~0u, lane, 3),
      __shfl_up_sync(~0u, lane, 3, 16),
      __shfl_down_sync(~0u, lane, 5),
      __shfl_down_sync(~0u, lane, 5, 8),
      __shfl_xor_sync(~0u, lane, 9),
      __ballot_sync(~0u, lane % 3 == 0),
      static_cast<std::uint32_t>(__any_sync(~0u, lane == 7) * 2 + __all_sync(~0u, lane != 7))};
  for (int i = 0; i < kShuffles; ++i) y[i * 32 + static_cast<int>(lane)] = values[i];
}

}  // namespace

void LaunchWgmmaProbe(int form, float* c, const BFloat16* a, const BFloat16* b) {
  using Probe = void (*)(float*, const BFloat16*, const BFloat16*);
  constexpr Probe kProbes[] = {&WgmmaProbe<0, 0, false, 64>, &WgmmaProbe<1, 0, false, 64>, &WgmmaProbe<0, 1, false, 64>,
                               &WgmmaProbe<1, 1, false, 64>, &WgmmaProbe<0, 0, true, 64>,  &WgmmaProbe<0, 1, true, 64>,
                               &WgmmaProbe<0, 1, false, 128>};
  cuda::Launch({.grid = {}, .block = {.x = 128}, .shared_bytes = 3 * kTileBytes + 1024}, {}, kProbes[form], c, a, b);
}

void LaunchBoxProbe(float* y, BFloat16* x, std::uint64_t columns, std::uint64_t rows, std::uint64_t planes, BoxAt at) {
  const std::uint64_t extent[] = {columns, rows, planes}, stride[] = {columns * 2, columns * rows * 2};
  const std::uint32_t box[] = {64, 4, 2};
  TensorMap map;
  EncodeTensorMap(&map, x, 2, 3, extent, stride, box);
  cuda::Launch({.grid = {}, .block = {.x = 32}, .shared_bytes = 2048 + 64}, {}, &BoxProbe, y, map, at);
}

void LaunchShuffleProbe(std::uint32_t* y) { cuda::Launch({.grid = {}, .block = {.x = 32}}, {}, &ShuffleProbe, y); }

}  // namespace angel_ptm::emulated
