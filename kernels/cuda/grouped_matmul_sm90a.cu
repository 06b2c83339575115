// Products of experts' weights with the rows of their tokens, as in grouped_matmul.cu, for bf16 operands with fp32
// sums, by wgmma and TMA for sm_90a alone:
//   c[r,N] = a[r,K] op(b[expert of r]),   dw[E,N,K] (+)= sum over the expert's rows of dy[r,N]^T x[r,K].
//
// With R rows in use, bytes: 2 (R (N + K) + E N K) once, from the cache R N K / 43; FLOPs: 2 R N K. Limit: the tensor
// cores; for an expert of fewer than about 250 rows, reading its weights.
//
// (1) A list of the experts' rows (expert_tiles.h). (2) Tiles as in matmul_wgmma.cuh, whatever the counts are: no block
// of the launch waits for another expert's.
// Rows: tiles of 128 rows of one expert and 256 columns, all with K / 64 steps, so that blocks that take every 132nd
// tile have equal work up to one tile. An expert's last tile begins early enough to end with the expert's rows: the
// rows before them belong to another tile, and nothing is read after the rows in use.
// Tokens: the same for rows that are not laid out. The first warpgroup gathers them, which saves the dispatch: 4 R K
// bytes of traffic and R K elements of memory. Rows of padding are zero.
// Gradient: 128 x 256 of an expert's weights, over all of its rows in order. The last step is copied in slices of 16
// rows, and slices after the expert's rows are zero. An expert has N K / 2^15 such tiles, each as long as its rows.
// Experts with most rows come first, so that a block has at most the longest tile's work more than another. Weights of
// experts without rows get zero.
// Workspace: 16 bytes per tile of rows; for the gradient, 16 E bytes.
#include "kernels/cuda/gathered_matmul.h"
#include "kernels/cuda/matmul_wgmma.cuh"
#include "kernels/ops/grouped_matmul.h"

namespace angel_ptm::cuda {
namespace wgmma {

static_assert(kExpertTileRows == kRows && kSm90aBlockRows == kSlice);

struct ProductsOfRows {
  static constexpr bool kOfExperts = true, kTails = false, kGathers = false;

  Result c;
  const ExpertRows* tiles;
  int wide, steps;

  APTM_DEVICE int Count() const { return tiles->count * wide; }
  APTM_DEVICE Tile At(int i) const {
    const TilePlace place = PlaceOf({tiles->count, wide}, i);
    const ExpertRows rows = tiles[place.row];
    const int end = rows.end - rows.begin > kRows ? rows.begin + kRows : rows.end;
    Tile tile = {c, end - kRows, place.column * kColumns, 0, steps, 0, rows.expert};
    tile.c.row_begin = rows.begin, tile.c.row_end = end;
    return tile;
  }
};

struct ProductsOfTokens {
  static constexpr bool kOfExperts = true, kTails = false, kGathers = true;

  ProductsOfRows products;
  GatheredRows rows;
  const BFloat16* x;
  int k;

  APTM_DEVICE int Count() const { return products.Count(); }
  APTM_DEVICE Tile At(int i) const {
    Tile tile = products.At(i);
    tile.row = static_cast<int>(tile.c.row_begin);
    return tile;
  }
  APTM_DEVICE int TokenOf(int row) const {
    const int pair = rows.pair_of_row[row];
    return pair < 0 ? -1 : pair / rows.choices;
  }
};

struct GradientsOfWeights {
  static constexpr bool kOfExperts = false, kTails = true, kGathers = false;

  Result dw;  // the first expert's
  const ExpertRows* experts;
  TileGrid tiles;  // of one expert

  APTM_DEVICE int Count() const { return experts->count * tiles.high * tiles.wide; }
  APTM_DEVICE Tile At(int i) const {
    const int of_expert = tiles.high * tiles.wide;
    const TilePlace place = PlaceOf(tiles, i % of_expert);
    const ExpertRows rows = experts[i / of_expert];
    const int slices = (rows.end - rows.begin) / kSlice, steps = (slices * kSlice + kStep - 1) / kStep;
    Tile tile = {dw, place.row * kRows, place.column * kColumns, rows.begin, steps, slices, 0};
    const std::int64_t element_bytes = dw.is_bf16 ? sizeof(BFloat16) : sizeof(float);
    tile.c.data = static_cast<unsigned char*>(dw.data) + rows.expert * dw.row_end * dw.columns * element_bytes;
    return tile;
  }
};

}  // namespace wgmma

namespace {

template <bool kTransB>
__global__ void __launch_bounds__(wgmma::kThreads, 1)
    GroupedMatmulSm90a(wgmma::ProductsOfRows products, const __grid_constant__ TensorMap a,
                       const __grid_constant__ TensorMap b) {
  wgmma::MultiplyTiles<false, kTransB>(products, {&a, &b, nullptr, nullptr});
}

template <bool kTransB>
__global__ void __launch_bounds__(wgmma::kThreads, 1)
    GatheredMatmulSm90a(wgmma::ProductsOfTokens products, const __grid_constant__ TensorMap b) {
  wgmma::MultiplyTiles<false, kTransB>(products, {nullptr, &b, nullptr, nullptr});
}

__global__ void __launch_bounds__(wgmma::kThreads, 1)
    GroupedMatmulGradWeightSm90a(wgmma::GradientsOfWeights gradients, const __grid_constant__ TensorMap dy,
                                 const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap dy_slices,
                                 const __grid_constant__ TensorMap x_slices) {
  wgmma::MultiplyTiles<true, false>(gradients, {&dy, &x, &dy_slices, &x_slices});
}

template <typename Args>
std::int64_t RowsOf(const Args& args) {
  return args.blocks_max * args.block_rows;
}
LaunchShape ShapeFor(const GroupedMatmulArgs& args, const wgmma::ProductsOfRows& products) {
  return wgmma::ShapeFor(static_cast<std::int64_t>(RowTilesMax(ExpertBlocksOf(args))) * products.wide);
}
TensorMap MapOfWeights(const GroupedMatmulArgs& args) {
  return wgmma::MapOfExperts(args.b, args.e, args.n, args.k, args.trans_b, wgmma::kColumns);
}
// Makes the list of tiles.
wgmma::ProductsOfRows FindProducts(const GroupedMatmulArgs& args, const LaunchContext& context) {
  ExpertRows* const tiles = reinterpret_cast<ExpertRows*>(context.workspace);
  LaunchFindTiles(tiles, ExpertBlocksOf(args), context);
  return {ResultOf(args.c, RowsOf(args), args.n, false), tiles, wgmma::Parts(args.n, wgmma::kColumns),
          wgmma::Parts(args.k, wgmma::kStep)};
}

}  // namespace

void LaunchGroupedMatmulSm90a(const GroupedMatmulArgs& args, const LaunchContext& context) {
  const wgmma::ProductsOfRows products = FindProducts(args, context);
  Launch(ShapeFor(args, products), context, args.trans_b ? &GroupedMatmulSm90a<true> : &GroupedMatmulSm90a<false>,
         products, wgmma::MapOfOperand(args.a, RowsOf(args), args.k, true, wgmma::kRows), MapOfWeights(args));
}

void LaunchGatheredMatmulSm90a(const GroupedMatmulArgs& args, const GatheredRows& rows, const LaunchContext& context) {
  const wgmma::ProductsOfRows products = FindProducts(args, context);
  Launch(ShapeFor(args, products), context, args.trans_b ? &GatheredMatmulSm90a<true> : &GatheredMatmulSm90a<false>,
         wgmma::ProductsOfTokens{products, rows, args.a.as<BFloat16>(), static_cast<int>(args.k)}, MapOfWeights(args));
}

void LaunchGroupedMatmulGradWeightSm90a(const GroupedMatmulGradWeightArgs& args, const LaunchContext& context) {
  ExpertRows* const experts = reinterpret_cast<ExpertRows*>(context.workspace);
  LaunchSortExperts(experts, ExpertBlocksOf(args), context);
  const std::int64_t rows = RowsOf(args);
  const TileGrid tiles = {wgmma::Parts(args.n, wgmma::kRows), wgmma::Parts(args.k, wgmma::kColumns)};
  Launch(wgmma::ShapeFor(args.e * tiles.high * tiles.wide), context, &GroupedMatmulGradWeightSm90a,
         wgmma::GradientsOfWeights{ResultOf(args.dw, args.n, args.k, args.accumulate), experts, tiles},
         wgmma::MapOfOperand(args.dy, args.n, rows, false, wgmma::kRows),
         wgmma::MapOfOperand(args.x, args.k, rows, false, wgmma::kColumns),
         wgmma::MapOfOperand(args.dy, args.n, rows, false, wgmma::kRows, wgmma::kSlice),
         wgmma::MapOfOperand(args.x, args.k, rows, false, wgmma::kColumns, wgmma::kSlice));
}

}  // namespace angel_ptm::cuda
