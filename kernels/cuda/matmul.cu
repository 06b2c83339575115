// c[M,N] (+)= op(a) op(b), bf16 operands, fp32 sums, c in bf16 or fp32, by the tiles of matmul_tiles.cuh.
//
// Bytes: 2 (M K + K N) + M N elements of c once, from the cache M N K / 64; FLOPs: 2 M N K. Limit: the tensor cores, of
// which mma.sync reaches about 65 % on sm_90. A block makes one tile of 128 x 128.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_tiles.cuh"
#include "kernels/ops/matmul.h"

namespace angel_ptm::cuda {
namespace {

template <bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks) Matmul(Result c, Matrix a, Matrix b, std::int64_t k) {
  APTM_DYNAMIC_SHARED(shared);
  MultiplyTile<kTransA, kTransB>(c, a, b, static_cast<std::int64_t>(blockIdx.y) * kMatmulTile,
                                 static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, k,
                                 reinterpret_cast<std::uint16_t*>(shared));
}

}  // namespace

void LaunchProduct(const Result& c, const Matrix& a, bool trans_a, const Matrix& b, bool trans_b, std::int64_t k,
                   const LaunchContext& context) {
  const auto tiles = [](std::int64_t extent) {
    return static_cast<unsigned>((extent + kMatmulTile - 1) / kMatmulTile);
  };
  const LaunchShape shape = {.grid = {.x = tiles(c.columns), .y = tiles(c.row_end)},
                             .block = {.x = kMatmulThreads},
                             .shared_bytes = kMatmulSharedBytes};
  auto* kernel = trans_b ? &Matmul<false, true> : &Matmul<false, false>;
  if (trans_a) kernel = trans_b ? &Matmul<true, true> : &Matmul<true, false>;
  Launch(shape, context, kernel, c, a, b, k);
}

void LaunchMatmul(const MatmulArgs& args, const LaunchContext& context) {
  LaunchProduct(ResultOf(args.c, args.m, args.n, args.accumulate),
                MatrixOf(args.a, args.trans_a ? args.k : args.m, args.trans_a ? args.m : args.k), args.trans_a,
                MatrixOf(args.b, args.trans_b ? args.n : args.k, args.trans_b ? args.k : args.n), args.trans_b, args.k,
                context);
}

}  // namespace angel_ptm::cuda
