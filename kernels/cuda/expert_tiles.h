// The tiles that products are made of and their order: functions for host and device, and lists of experts' rows.
// Kernels make these lists, because only the device knows how many rows an expert has.
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

// The size of a grid of tiles, and the place of a tile in it, in rows and columns of tiles.
struct TileGrid {
  int high, wide;
};
struct TilePlace {
  int row, column;
};
// The i-th tile. The order is column by column within eight rows of tiles, so that tiles that run at the same time
// share their operands in the cache.
APTM_HOST_DEVICE inline TilePlace PlaceOf(const TileGrid& grid, int i) {
  constexpr int kHigh = 8;
  const int first = i / (kHigh * grid.wide) * kHigh, within = i % (kHigh * grid.wide);
  const int high = grid.high - first < kHigh ? grid.high - first : kHigh;
  return {first + within % high, within / high};
}

// Contiguous rows of one expert.
struct ExpertRows {
  std::int32_t expert, begin, end;
  std::int32_t count;  // entries of the list in use
};
inline constexpr int kExpertTileRows = 128;

// The blocks of expert_layout, `rows` rows each, ordered by expert. expert[i] is the expert of block i, for
// i < *active.
struct ExpertBlocks {
  const std::int32_t *expert, *active;
  std::int32_t rows, experts, blocks_max;
};
template <typename Args>
ExpertBlocks ExpertBlocksOf(const Args& args) {
  return {args.block_expert, args.active_blocks, static_cast<std::int32_t>(args.block_rows),
          static_cast<std::int32_t>(args.e), static_cast<std::int32_t>(args.blocks_max)};
}
// The largest possible number of tiles of kExpertTileRows rows; the last tile of each expert may have fewer rows.
inline int RowTilesMax(const ExpertBlocks& blocks) {
  const std::int64_t more = blocks.experts < blocks.blocks_max ? blocks.experts : blocks.blocks_max;
  return static_cast<int>(std::int64_t{blocks.blocks_max} * blocks.rows / kExpertTileRows + more);
}

// tiles[RowTilesMax]: ordered by expert, with where the tile's rows begin and where all rows of the expert end; the
// expert is -1 after the last tile. 16 bytes each.
void LaunchFindTiles(ExpertRows* tiles, const ExpertBlocks& blocks, const LaunchContext& context);
// rows[experts]: all experts in order of decreasing number of rows; among equal ones the lower number first.
void LaunchSortExperts(ExpertRows* rows, const ExpertBlocks& blocks, const LaunchContext& context);

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_EXPERT_TILES_H_
