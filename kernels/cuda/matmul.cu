// c[M,N] (+)= op(a) op(b) with fp32 sums: bf16 operands with c in bf16 or fp32 by the tiles of matmul_tiles.cuh, or all
// in fp32 by those of fma_tiles.cuh.
//
// Bytes: an element's bytes times M K + K N, and c's once; from the cache M N K / 64 elements; FLOPs: 2 M N K. Limit:
// the tensor cores, of which mma.sync reaches about 65 % on sm_90, or the FMA units: 67 TFLOP/s there, 19.5 on sm_80. A
// block makes one tile of 128 x 128.
#include "kernels/cuda/fma_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_tiles.cuh"
#include "kernels/ops/matmul.h"

namespace angel_ptm::cuda {
namespace {

template <typename T, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kMatmulThreads, kMatmulBlocks)
    Matmul(Result c, Matrix<T> a, Matrix<T> b, std::int64_t k) {
  APTM_DYNAMIC_SHARED(shared);
  MultiplyTile<kTransA, kTransB>(c, a, b, static_cast<std::int64_t>(blockIdx.y) * kMatmulTile,
                                 static_cast<std::int64_t>(blockIdx.x) * kMatmulTile, k, shared);
}

}  // namespace

template <typename T>
void LaunchProduct(const Result& c, const Matrix<T>& a, bool trans_a, const Matrix<T>& b, bool trans_b, std::int64_t k,
                   const LaunchContext& context) {
  const auto tiles = [](std::int64_t extent) {
    return static_cast<unsigned>((extent + kMatmulTile - 1) / kMatmulTile);
  };
  const LaunchShape shape = {.grid = {.x = tiles(c.columns), .y = tiles(c.row_end)},
                             .block = {.x = kMatmulThreads},
                             .shared_bytes = kMatmulSharedBytes<T>};
  auto* kernel = trans_b ? &Matmul<T, false, true> : &Matmul<T, false, false>;
  if (trans_a) kernel = trans_b ? &Matmul<T, true, true> : &Matmul<T, true, false>;
  Launch(shape, context, kernel, c, a, b, k);
}
template void LaunchProduct(const Result&, const Matrix<BFloat16>&, bool, const Matrix<BFloat16>&, bool, std::int64_t,
                            const LaunchContext&);
template void LaunchProduct(const Result&, const Matrix<float>&, bool, const Matrix<float>&, bool, std::int64_t,
                            const LaunchContext&);

void LaunchMatmul(const MatmulArgs& args, const LaunchContext& context) {
  WithElements(args.a.dtype, [&](auto element) {
    using T = decltype(element);
    LaunchProduct(ResultOf(args.c, args.m, args.n, args.accumulate),
                  MatrixOf<T>(args.a, args.trans_a ? args.k : args.m, args.trans_a ? args.m : args.k), args.trans_a,
                  MatrixOf<T>(args.b, args.trans_b ? args.n : args.k, args.trans_b ? args.k : args.n), args.trans_b,
                  args.k, context);
  });
}

}  // namespace angel_ptm::cuda
