// What a kernel calls in place of instructions when it is compiled as plain C++ (ANGEL_PTM_CUDA_EMULATED). Defined by
// tests/cuda_emulation, which runs one fiber per CUDA thread and checks what the threads do; the product never links
// it. Only language.cuh, ptx.cuh and launch.cuh include this file.
//
// Operands are those of the instruction: shared memory by its 32-bit address, descriptors as 64 bits, barriers by
// parity. So the emulator reads what the hardware would read.
#ifndef ANGEL_PTM_KERNELS_CUDA_EMULATED_H_
#define ANGEL_PTM_KERNELS_CUDA_EMULATED_H_

#include <cstddef>
#include <cstdint>
#include <functional>

namespace angel_ptm::emulated {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
// The place of the calling thread.
struct ThreadPlace {
  Index thread, block, block_dim, grid_dim;
};
const ThreadPlace& Place();

struct LaunchShape {
  Index grid, block;
  std::size_t shared_bytes = 0;  // dynamic
  bool asks_for_shared = false;  // otherwise arrays and dynamic shared memory have 48 KB together
  int cluster = 1;               // blocks of a cluster, adjacent in x
  int registers = 0;             // of a thread at launch, as ptxas reports; 0: setmaxnreg is not used
};
// Runs thread_body once per thread of the grid.
void Run(const LaunchShape& shape, const std::function<void()>& thread_body);

// Shared memory. An array is identified by the line that declares it.
void* SharedArray(const char* file, int line, std::size_t bytes, std::size_t alignment);
void* DynamicShared();
std::uint32_t SharedAddress(const void* pointer);

// Blocks and warps.
void SyncThreads();
void NamedBarrier(int id, int threads, bool waits);
void SyncWarp(std::uint32_t mask);
enum class Shuffle { kIndex, kUp, kDown, kXor };
std::uint32_t ShuffleBits(Shuffle kind, std::uint32_t mask, std::uint32_t value, int argument, int width);
enum class Vote { kBallot, kAny, kAll };
std::uint32_t VoteBits(Vote kind, std::uint32_t mask, bool predicate);
std::int32_t AtomicAdd(std::int32_t* address, std::int32_t value);
std::uint32_t AtomicAdd(std::uint32_t* address, std::uint32_t value);

// sm_80: asynchronous copies and matrix instructions of a warp.
void CopyAsync(std::uint32_t to, const void* from, int bytes, int source_bytes);
void CopyAsyncCommit();
void CopyAsyncWait(int groups_left);
void LoadMatrix(std::uint32_t* registers, int matrices, bool transposed, std::uint32_t row_address);
void StoreMatrix(const std::uint32_t* registers, int matrices, bool transposed, std::uint32_t row_address);
void MultiplyM16N8K16(float* d, const std::uint32_t* a, const std::uint32_t* b);

// sm_90: barriers in shared memory that count phases and bytes, and fences that order the generic and the async proxy.
void MbarrierInit(std::uint32_t barrier, std::uint32_t arrivals);
void MbarrierArrive(std::uint32_t barrier, std::uint32_t expected_bytes);
void MbarrierWait(std::uint32_t barrier, std::uint32_t parity);
void FenceMbarrierInit();
void FenceProxyAsync();

// Tensor copies by TMA. Extents, strides, boxes and coordinates are listed innermost first.
inline constexpr int kTensorRankMax = 5;
struct TensorMap {
  const void* base = nullptr;
  int rank = 0, element_bytes = 0;
  std::uint64_t extent[kTensorRankMax] = {}, stride_bytes[kTensorRankMax] = {};
  std::uint32_t box[kTensorRankMax] = {};
};
// stride_bytes starts with the second dimension. Boxes lie in shared memory with the 128-byte swizzle.
void EncodeTensorMap(TensorMap* map, const void* base, int element_bytes, int rank, const std::uint64_t* extent,
                     const std::uint64_t* stride_bytes, const std::uint32_t* box);
void TensorLoad(std::uint32_t to, const TensorMap* map, std::uint32_t barrier, int rank, const int* coordinates);
void TensorStore(const TensorMap* map, std::uint32_t from, int rank, const int* coordinates);
void BulkCommit();
void BulkWait(int groups_left);

// wgmma.m64nNk16, bf16 into fp32. If `a` is null, a_descriptor says where it is in shared memory.
void Wgmma(int n, float* d, const std::uint32_t* a, std::uint64_t a_descriptor, std::uint64_t b_descriptor,
           bool accumulates, bool a_transposed, bool b_transposed);
void WgmmaFence();
void WgmmaCommit();
void WgmmaWait(int groups_left);

void SetMaxRegisters(int registers, bool raises);

// Clusters. The shared memory of other blocks is addressable, too.
int ClusterRank();
void ClusterSync();
std::uint32_t MapShared(std::uint32_t address, int rank);
float LoadShared(std::uint32_t address);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_KERNELS_CUDA_EMULATED_H_
