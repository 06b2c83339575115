// Which tiles products are made of and in which order: functions for host and device, and the lists of experts' rows
// that kernels on the device make, as only it knows how many rows an expert has.
#ifndef ANGEL_PTM_KERNELS_CUDA_EXPERT_TILES_H_
#define ANGEL_PTM_KERNELS_CUDA_EXPERT_TILES_H_

#include <cstdint>

#include "kernels/cuda/cuda_launch.h"

#ifdef __CUDACC__
#define APTM_HOST_DEVICE __host__ __device__
#else
#define APTM_HOST_DEVICE
#endif

namespace angel_ptm::cuda {

// Tiles, and one of them, by rows and columns of tiles.
struct TileGrid {
  int high, wide;
};
struct TilePlace {
  int row, column;
};
// The i-th tile: eight rows of tiles at a time, column by column, so that the tiles under way at one time share their
// operands in the cache.
APTM_HOST_DEVICE inline TilePlace PlaceOf(const TileGrid& grid, int i) {
  constexpr int kHigh = 8;
  const int first = i / (kHigh * grid.wide) * kHigh, within = i % (kHigh * grid.wide);
  const int high = grid.high - first < kHigh ? grid.high - first : kHigh;
  return {first + within % high, within / high};
}

// Rows of one expert, which lie together.
struct ExpertRows {
  std::int32_t expert, begin, end;
  std::int32_t count;  // entries of the list in use
};
inline constexpr int kExpertTileRows = 128;

// The blocks of expert_layout: each of `rows` rows, by expert. expert[i] is that of block i, of *active blocks.
struct ExpertBlocks {
  const std::int32_t *expert, *active;
  std::int32_t rows, experts, blocks_max;
};
template <typename Args>
ExpertBlocks ExpertBlocksOf(const Args& args) {
  return {args.block_expert, args.active_blocks, static_cast<std::int32_t>(args.block_rows),
          static_cast<std::int32_t>(args.e), static_cast<std::int32_t>(args.blocks_max)};
}
// At most so many tiles of kExpertTileRows, of which every expert may leave one with fewer rows.
inline int RowTilesMax(const ExpertBlocks& blocks) {
  const std::int64_t more = blocks.experts < blocks.blocks_max ? blocks.experts : blocks.blocks_max;
  return static_cast<int>(std::int64_t{blocks.blocks_max} * blocks.rows / kExpertTileRows + more);
}

// tiles[RowTilesMax]: by expert, where the next kExpertTileRows of its rows begin and where all of them end; behind the
// last an expert of -1. 16 bytes each.
void LaunchFindTiles(ExpertRows* tiles, const ExpertBlocks& blocks, const LaunchContext& context);
// rows[experts]: all experts, those with most rows first, of equal ones the lower number.
void LaunchSortExperts(ExpertRows* rows, const ExpertBlocks& blocks, const LaunchContext& context);

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_EXPERT_TILES_H_
