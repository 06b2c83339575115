// What kernels that use wgmma and TMA share: a ring of stages in shared memory that tensor copies fill ahead of the
// warpgroups that multiply, and the layout of operands in tiles with the 128-byte swizzle.
#ifndef ANGEL_PTM_KERNELS_CUDA_WGMMA_RING_CUH_
#define ANGEL_PTM_KERNELS_CUDA_WGMMA_RING_CUH_

#include "kernels/cuda/elements.cuh"

namespace angel_ptm::cuda {

inline constexpr int kWarpgroup = 128;  // threads
// A row of a swizzled tile has 64 elements. Atoms of eight rows are aligned.
inline constexpr std::uint32_t kSwizzleRowBytes = 128, kSwizzleColumns = 64, kSwizzleAtomBytes = 1024;

// Where swizzled tiles may begin in dynamic shared memory, which has kSwizzleAtomBytes extra bytes for this.
APTM_DEVICE std::uint32_t FirstTile(const unsigned char* shared) {
  const std::uint32_t at = ptx::SharedAddress(shared);
  return at + (kSwizzleAtomBytes - at % kSwizzleAtomBytes) % kSwizzleAtomBytes;
}

// A stage is full when its copiers have arrived and the bytes that one of them expects are there; it is free when its
// readers have arrived. Each copier and each reader has a Ring of its own; `used` counts the stages that it has used.
template <int kStages, std::uint32_t kStageBytes>
struct Ring {
  std::uint32_t stages, full, empty;  // shared addresses; the barriers behind the stages
  int used = 0;

  static constexpr std::uint32_t kBytes = kStages * (kStageBytes + 2 * sizeof(std::uint64_t));

  APTM_DEVICE explicit Ring(std::uint32_t at)
      : stages(at), full(at + kStages * kStageBytes), empty(full + kStages * sizeof(std::uint64_t)) {}
  // Called by one thread, before FenceMbarrierInit.
  APTM_DEVICE void Init(std::uint32_t readers, std::uint32_t copiers = 1) const {
    for (std::uint32_t i = 0; i < kStages; ++i) {
      ptx::MbarrierInit(full + i * 8, copiers);
      ptx::MbarrierInit(empty + i * 8, readers);
    }
  }
  APTM_DEVICE std::uint32_t Stage() const { return stages + used % kStages * kStageBytes; }
  APTM_DEVICE std::uint32_t Full() const { return full + used % kStages * 8; }
  APTM_DEVICE std::uint32_t Turn() const { return used / kStages % 2; }
  // Waits until the current stage is free; then expects its bytes.
  APTM_DEVICE void Expect(std::uint32_t bytes) const {
    WaitFree();
    ptx::MbarrierArriveExpect(Full(), bytes);
  }
  APTM_DEVICE void WaitFree() const { ptx::MbarrierWait(empty + used % kStages * 8, Turn() ^ 1); }
  // Called by a copier without TMA when its own writes to the stage that it used `uses_ago` uses ago are done.
  APTM_DEVICE void ArriveFull(int uses_ago) const { ptx::MbarrierArrive(full + (used - uses_ago) % kStages * 8); }
  APTM_DEVICE void WaitFull() const { ptx::MbarrierWait(Full(), Turn()); }
  // Called by a reader to release the stage that it used `uses_ago` uses ago.
  APTM_DEVICE void Release(int uses_ago) const { ptx::MbarrierArrive(empty + (used - uses_ago) % kStages * 8); }
};

// wgmma's descriptor of the k-th 16 of a tile. kRowsOfK: rows of 64 k, all m or n one after the other. Otherwise rows
// of 64 m or n, with those of the next 64 `leading` bytes further on.
template <bool kRowsOfK>
APTM_DEVICE std::uint64_t DescriptorAt(std::uint32_t tile, std::uint32_t k, std::uint32_t leading) {
  return ptx::WgmmaDescriptor(tile + k * (kRowsOfK ? 32 : 16 * kSwizzleRowBytes), kRowsOfK ? 16 : leading,
                              kSwizzleAtomBytes);
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_WGMMA_RING_CUH_
