// Products of experts' weights with the rows of their tokens (kernels/ops/grouped_matmul.h), by the tiles of
// matmul_tiles.cuh (bf16 operands) and fma_tiles.cuh (all fp32):
//   c[r,N] = a[r,K] op(b[expert of r]),   dw[E,N,K] (+)= sum over the expert's rows of dy[r,N]^T x[r,K].
//
// R rows in use. Bytes: an element's bytes times R (N + K) + E N K once, from the cache R N K / 64 elements; FLOPs:
// 2 R N K. Limit: the tensor cores, of which mma.sync reaches about 65 % on sm_90, or the FMA units; an expert of fewer
// rows than a tile, its weights.
//
// (1) One block, a thread an expert, finds every expert's rows, which lie together. (2) Rows: a block takes 128 rows of
// one expert and 128 columns; an expert's last tile may be short, a block without a tile returns at once: there are at
// most E more of them than rows / 128. Gradient: a block takes 128 x 128 of one expert's weights and all of its rows,
// in order. A row's bits depend on its token and expert alone. Workspace: 16 bytes a tile of rows; of the gradient, 8 E
// bytes.
#include "kernels/cuda/fma_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_tiles.cuh"
#include "kernels/ops/grouped_matmul.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kExpertThreads = 1024;

struct RowRange {
  std::int32_t begin, end;
};
struct RowTile {
  std::int32_t expert, begin, end, unused;
};

struct Blocks {
  const std::int32_t *expert, *active;
  std::int32_t rows;
};

// Where in the active blocks those of `expert` begin, or would.
APTM_DEVICE std::int32_t FirstBlock(const Blocks& blocks, int expert) {
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

__global__ void __launch_bounds__(kExpertThreads) FindRows(RowRange* rows_E, Blocks blocks, int e) {
  for (int i = threadIdx.x; i < e; i += kExpertThreads) {
    rows_E[i] = {FirstBlock(blocks, i) * blocks.rows, FirstBlock(blocks, i + 1) * blocks.rows};
  }
}

__global__ void __launch_bounds__(kExpertThreads) FindTiles(RowTile* tiles, int tiles_max, Blocks blocks, int e) {
  APTM_DYNAMIC_SHARED(shared);
  int* const first_tile = reinterpret_cast<int*>(shared);  // [E + 1], at first numbers of tiles
  const auto rows_of = [&](int i) {
    return RowRange{FirstBlock(blocks, i) * blocks.rows, FirstBlock(blocks, i + 1) * blocks.rows};
  };
  for (int i = threadIdx.x; i < e; i += kExpertThreads) {
    const RowRange rows = rows_of(i);
    first_tile[i] = (rows.end - rows.begin + kMatmulTile - 1) / kMatmulTile;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int tile = 0;
    for (int i = 0; i < e; ++i) {
      const int count = first_tile[i];
      first_tile[i] = tile;
      tile += count;
    }
    first_tile[e] = tile;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < e; i += kExpertThreads) {
    const RowRange rows = rows_of(i);
    for (int tile = first_tile[i]; tile < first_tile[i + 1]; ++tile) {
      tiles[tile] = {i, rows.begin + (tile - first_tile[i]) * kMatmulTile, rows.end, 0};
    }
  }
  for (int tile = first_tile[e] + static_cast<int>(threadIdx.x); tile < tiles_max; tile += kExpertThreads) {
    tiles[tile] = {-1, 0, 0, 0};
  }
}

template <typename T, bool kTransB>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks)
    GroupedMatmul(Result c, Matrix<T> a, Matrix<T> b, std::int64_t k, const RowTile* tiles) {
  APTM_DYNAMIC_SHARED(shared);
  const RowTile tile = tiles[blockIdx.y];
  if (tile.expert < 0) return;
  c.row_end = a.rows = tile.end;
  b.data += tile.expert * b.rows * b.stride;
  MultiplyTile<false, kTransB>(c, a, b, tile.begin, static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, k, shared);
}

template <typename T>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks)
    GroupedMatmulGradWeight(Result dw, Matrix<T> dy, Matrix<T> x, const RowRange* rows_E) {
  APTM_DYNAMIC_SHARED(shared);
  const std::int64_t expert = blockIdx.z;
  const RowRange rows = rows_E[expert];
  if (dw.accumulate && rows.begin == rows.end) return;
  const std::int64_t element_bytes = dw.is_bf16 ? sizeof(BFloat16) : sizeof(float);
  dw.data = static_cast<unsigned char*>(dw.data) + expert * dw.row_end * dw.columns * element_bytes;
  dy.data += rows.begin * dy.stride;
  x.data += rows.begin * x.stride;
  dy.rows = x.rows = rows.end - rows.begin;
  MultiplyTile<true, false>(dw, dy, x, static_cast<std::int64_t>(blockIdx.y) * kMatmulTile,
                            static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, dy.rows, shared);
}

unsigned Tiles(std::int64_t extent) { return static_cast<unsigned>((extent + kMatmulTile - 1) / kMatmulTile); }

int RowTilesMax(const GroupedMatmulArgs& args) {
  const std::int64_t more = args.e < args.blocks_max ? args.e : args.blocks_max;
  return static_cast<int>(args.blocks_max * args.block_rows / kMatmulTile + more);
}

template <typename Args>
Blocks BlocksOf(const Args& args) {
  return {args.block_expert, args.active_blocks, static_cast<std::int32_t>(args.block_rows)};
}

}  // namespace

std::int64_t WorkspaceBytes(const GroupedMatmulArgs& args) {
  return RowTilesMax(args) * static_cast<std::int64_t>(sizeof(RowTile));
}

void LaunchGroupedMatmul(const GroupedMatmulArgs& args, const LaunchContext& context) {
  RowTile* const tiles = reinterpret_cast<RowTile*>(context.workspace);
  const int tiles_max = RowTilesMax(args), e = static_cast<int>(args.e);
  Launch({.grid = {}, .block = {.x = kExpertThreads}, .shared_bytes = (args.e + 1) * sizeof(int)}, context, &FindTiles,
         tiles, tiles_max, BlocksOf(args), e);
  const std::int64_t rows = args.blocks_max * args.block_rows;
  WithElements(args.a.dtype, [&](auto element) {
    using T = decltype(element);
    const Matrix<T> b = MatrixOf<T>(args.b, args.trans_b ? args.n : args.k, args.trans_b ? args.k : args.n);
    Launch({.grid = {.x = Tiles(args.n), .y = static_cast<unsigned>(tiles_max)},
            .block = {.x = kMatmulThreads},
            .shared_bytes = kMatmulSharedBytes<T>},
           context, args.trans_b ? &GroupedMatmul<T, true> : &GroupedMatmul<T, false>,
           ResultOf(args.c, rows, args.n, false), MatrixOf<T>(args.a, rows, args.k), b, args.k, tiles);
  });
}

std::int64_t WorkspaceBytes(const GroupedMatmulGradWeightArgs& args) {
  return args.e * static_cast<std::int64_t>(sizeof(RowRange));
}

void LaunchGroupedMatmulGradWeight(const GroupedMatmulGradWeightArgs& args, const LaunchContext& context) {
  RowRange* const rows_E = reinterpret_cast<RowRange*>(context.workspace);
  Launch({.grid = {}, .block = {.x = kExpertThreads}}, context, &FindRows, rows_E, BlocksOf(args),
         static_cast<int>(args.e));
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch({.grid = {.x = Tiles(args.k), .y = Tiles(args.n), .z = static_cast<unsigned>(args.e)},
            .block = {.x = kMatmulThreads},
            .shared_bytes = kMatmulSharedBytes<T>},
           context, &GroupedMatmulGradWeight<T>, ResultOf(args.dw, args.n, args.k, args.accumulate),
           MatrixOf<T>(args.dy, 0, args.n), MatrixOf<T>(args.x, 0, args.k), rows_E);
  });
}

}  // namespace angel_ptm::cuda
