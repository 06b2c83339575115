// Products of experts' weights with the rows of their tokens (kernels/ops/grouped_matmul.h), by the tiles of
// matmul_tiles.cuh (bf16 operands) and fma_tiles.cuh (all fp32):
//   c[r,N] = a[r,K] op(b[expert of r]),   dw[E,N,K] (+)= sum over the expert's rows of dy[r,N]^T x[r,K].
//
// With R rows in use, bytes: an element's bytes times R (N + K) + E N K once, from the cache R N K / 64 elements;
// FLOPs: 2 R N K. Limit: the tensor cores, of which mma.sync reaches about 65 % on sm_90, or the FMA units; for an
// expert of fewer rows than a tile, reading its weights.
//
// (1) A list of the experts' rows (expert_tiles.h). (2) Rows: a block handles 128 rows of one expert and 128 columns.
// An expert's last tile may have fewer rows, and a block without a tile returns immediately: there are at most E more
// blocks than rows / 128. Gradient: a block handles 128 x 128 of one expert's weights and all of its rows, in order;
// the blocks of the experts with most rows start first. A row's bits depend on its token and expert alone. Workspace:
// 16 bytes per tile of rows; for the gradient, 16 E bytes.
#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/fma_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_tiles.cuh"
#include "kernels/ops/grouped_matmul.h"

namespace angel_ptm::cuda {
namespace {

static_assert(kMatmulTile == kExpertTileRows);

template <typename T, bool kTransB>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks)
    GroupedMatmul(Result c, Matrix<T> a, Matrix<T> b, std::int64_t k, const ExpertRows* tiles) {
  APTM_DYNAMIC_SHARED(shared);
  const ExpertRows tile = tiles[blockIdx.y];
  if (tile.expert < 0) return;
  c.row_end = a.rows = tile.end;
  b.data += tile.expert * b.rows * b.stride;
  MultiplyTile<false, kTransB>(c, a, b, tile.begin, static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, k, shared);
}

template <typename T>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks)
    GroupedMatmulGradWeight(Result dw, Matrix<T> dy, Matrix<T> x, const ExpertRows* rows_E) {
  APTM_DYNAMIC_SHARED(shared);
  const ExpertRows rows = rows_E[blockIdx.z];
  if (dw.accumulate && rows.begin == rows.end) return;
  const std::int64_t element_bytes = dw.is_bf16 ? sizeof(BFloat16) : sizeof(float);
  dw.data = static_cast<unsigned char*>(dw.data) + rows.expert * dw.row_end * dw.columns * element_bytes;
  dy.data += rows.begin * dy.stride;
  x.data += rows.begin * x.stride;
  dy.rows = x.rows = rows.end - rows.begin;
  MultiplyTile<true, false>(dw, dy, x, static_cast<std::int64_t>(blockIdx.y) * kMatmulTile,
                            static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, dy.rows, shared);
}

unsigned Tiles(std::int64_t extent) { return static_cast<unsigned>((extent + kMatmulTile - 1) / kMatmulTile); }

}  // namespace

std::int64_t WorkspaceBytes(const GroupedMatmulArgs& args) {
  return RowTilesMax(ExpertBlocksOf(args)) * static_cast<std::int64_t>(sizeof(ExpertRows));
}

void LaunchGroupedMatmul(const GroupedMatmulArgs& args, const LaunchContext& context) {
  ExpertRows* const tiles = reinterpret_cast<ExpertRows*>(context.workspace);
  const ExpertBlocks blocks = ExpertBlocksOf(args);
  LaunchFindTiles(tiles, blocks, context);
  const std::int64_t rows = args.blocks_max * args.block_rows;
  WithElements(args.a.dtype, [&](auto element) {
    using T = decltype(element);
    const Matrix<T> b = MatrixOf<T>(args.b, args.trans_b ? args.n : args.k, args.trans_b ? args.k : args.n);
    Launch({.grid = {.x = Tiles(args.n), .y = static_cast<unsigned>(RowTilesMax(blocks))},
            .block = {.x = kMatmulThreads},
            .shared_bytes = kMatmulSharedBytes<T>},
           context, args.trans_b ? &GroupedMatmul<T, true> : &GroupedMatmul<T, false>,
           ResultOf(args.c, rows, args.n, false), MatrixOf<T>(args.a, rows, args.k), b, args.k, tiles);
  });
}

std::int64_t WorkspaceBytes(const GroupedMatmulGradWeightArgs& args) {
  return args.e * static_cast<std::int64_t>(sizeof(ExpertRows));
}

void LaunchGroupedMatmulGradWeight(const GroupedMatmulGradWeightArgs& args, const LaunchContext& context) {
  ExpertRows* const rows_E = reinterpret_cast<ExpertRows*>(context.workspace);
  LaunchSortExperts(rows_E, ExpertBlocksOf(args), context);
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
