// The lists of experts' rows that products of experts use (expert_tiles.h), from block_expert[B], which ascends. A
// binary search finds where an expert's blocks begin and end, then
//   tiles: a running sum of ceil(rows / 128);   order: an expert's place is the number of experts before it.
//
// Bytes: 16 per entry and a few of block_expert; integers only. Limit: latency, one block per launch. A thread handles
// every 1024th expert, and one thread adds up E counts. Sorting compares E^2 counts in shared memory: 64 per thread for
// 256 experts.
#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/launch.cuh"

namespace angel_ptm::cuda {
namespace {

constexpr int kTilesThreads = 1024;

// Where in the active blocks those of `expert` begin, or would begin.
APTM_DEVICE std::int32_t FirstBlock(const ExpertBlocks& blocks, int expert) {
  std::int32_t begin = 0, end = *blocks.active;
  while (begin < end) {
    const std::int32_t middle = (begin + end) / 2;
    if (blocks.expert[middle] < expert) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}
APTM_DEVICE ExpertRows RowsOf(const ExpertBlocks& blocks, int expert) {
  return {expert, FirstBlock(blocks, expert) * blocks.rows, FirstBlock(blocks, expert + 1) * blocks.rows, 0};
}

__global__ void __launch_bounds__(kTilesThreads) FindTiles(ExpertRows* tiles, int tiles_max, ExpertBlocks blocks) {
  APTM_DYNAMIC_SHARED(shared);
  int* const first_tile = reinterpret_cast<int*>(shared);  // [experts + 1], at first numbers of tiles
  for (int i = threadIdx.x; i < blocks.experts; i += kTilesThreads) {
    const ExpertRows rows = RowsOf(blocks, i);
    first_tile[i] = (rows.end - rows.begin + kExpertTileRows - 1) / kExpertTileRows;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int tile = 0;
    for (int i = 0; i < blocks.experts; ++i) {
      const int count = first_tile[i];
      first_tile[i] = tile;
      tile += count;
    }
    first_tile[blocks.experts] = tile;
  }
  __syncthreads();
  const int count = first_tile[blocks.experts];
  for (int i = threadIdx.x; i < blocks.experts; i += kTilesThreads) {
    const ExpertRows rows = RowsOf(blocks, i);
    for (int tile = first_tile[i]; tile < first_tile[i + 1]; ++tile) {
      tiles[tile] = {i, rows.begin + (tile - first_tile[i]) * kExpertTileRows, rows.end, count};
    }
  }
  for (int tile = count + static_cast<int>(threadIdx.x); tile < tiles_max; tile += kTilesThreads) {
    tiles[tile] = {-1, 0, 0, count};
  }
}

__global__ void __launch_bounds__(kTilesThreads) SortExperts(ExpertRows* sorted, ExpertBlocks blocks) {
  APTM_DYNAMIC_SHARED(shared);
  int* const counts = reinterpret_cast<int*>(shared);  // [experts]
  for (int i = threadIdx.x; i < blocks.experts; i += kTilesThreads) {
    const ExpertRows rows = RowsOf(blocks, i);
    counts[i] = rows.end - rows.begin;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < blocks.experts; i += kTilesThreads) {
    int place = 0;
    for (int other = 0; other < blocks.experts; ++other) {
      place += counts[other] > counts[i] || (counts[other] == counts[i] && other < i) ? 1 : 0;
    }
    ExpertRows rows = RowsOf(blocks, i);
    rows.count = blocks.experts;
    sorted[place] = rows;
  }
}

}  // namespace

void LaunchFindTiles(ExpertRows* tiles, const ExpertBlocks& blocks, const LaunchContext& context) {
  const std::size_t shared = (static_cast<std::size_t>(blocks.experts) + 1) * sizeof(int);
  Launch({.grid = {}, .block = {.x = kTilesThreads}, .shared_bytes = shared}, context, &FindTiles, tiles,
         RowTilesMax(blocks), blocks);
}

void LaunchSortExperts(ExpertRows* rows, const ExpertBlocks& blocks, const LaunchContext& context) {
  const std::size_t shared = static_cast<std::size_t>(blocks.experts) * sizeof(int);
  Launch({.grid = {}, .block = {.x = kTilesThreads}, .shared_bytes = shared}, context, &SortExperts, rows, blocks);
}

}  // namespace angel_ptm::cuda
