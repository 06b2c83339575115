// c[M,N] (+)= op(a) op(b) for bf16 operands, with fp32 sums and c in bf16 or fp32, by wgmma and TMA, for sm_90a alone.
// The order of a sum over k is that of the instruction, 16 at a time, whatever M and N are.
//
// Bytes: 2 (M K + K N) + M N elements of c once, from the cache M N K / 43; FLOPs: 2 M N K. Limit: the tensor cores.
//
// matmul_wgmma.cuh says what each warpgroup does. Tiles of 128 x 256 are ordered eight high, so that operands stay in
// the cache.
#include "kernels/cuda/matmul_wgmma.cuh"
#include "kernels/ops/matmul.h"

namespace angel_ptm::cuda {
namespace wgmma {

struct Product {
  static constexpr bool kOfExperts = false, kTails = false, kGathers = false;

  Result c;
  TileGrid tiles;
  int steps;

  APTM_DEVICE int Count() const { return tiles.high * tiles.wide; }
  APTM_DEVICE Tile At(int i) const {
    const TilePlace place = PlaceOf(tiles, i);
    return {c, place.row * kRows, place.column * kColumns, 0, steps, 0, 0};
  }
};

}  // namespace wgmma

namespace {

template <bool kTransA, bool kTransB>
__global__ void __launch_bounds__(wgmma::kThreads, 1)
    MatmulSm90a(wgmma::Product product, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b) {
  wgmma::MultiplyTiles<kTransA, kTransB>(product, {&a, &b, nullptr, nullptr});
}

}  // namespace

void LaunchMatmulSm90a(const MatmulArgs& args, const LaunchContext& context) {
  const TileGrid tiles = {wgmma::Parts(args.m, wgmma::kRows), wgmma::Parts(args.n, wgmma::kColumns)};
  auto* kernel = args.trans_b ? &MatmulSm90a<false, true> : &MatmulSm90a<false, false>;
  if (args.trans_a) kernel = args.trans_b ? &MatmulSm90a<true, true> : &MatmulSm90a<true, false>;
  Launch(wgmma::ShapeFor(static_cast<std::int64_t>(tiles.high) * tiles.wide), context, kernel,
         wgmma::Product{ResultOf(args.c, args.m, args.n, args.accumulate), tiles, wgmma::Parts(args.k, wgmma::kStep)},
         wgmma::MapOfOperand(args.a, args.m, args.k, !args.trans_a, wgmma::kRows),
         wgmma::MapOfOperand(args.b, args.n, args.k, args.trans_b, wgmma::kColumns));
}

}  // namespace angel_ptm::cuda
