// Products of many experts' weights with their tokens. The unit of work is one block of block_rows rows (forward) or
// one tile of one expert's gradient: fixed shapes, each on one thread, so bits depend neither on the other experts'
// counts nor on the number of threads.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGradTileRows = 128;  // rows of dw[e] one thread works on at a time

}  // namespace

void CpuGroupedMatmul(const GroupedMatmulArgs& args, const KernelContext& ctx) {
  const int64_t n = args.n, k = args.k, rows = args.block_rows;
  ParallelFor(ctx.threads, *args.active_blocks, [&](int64_t block) {
    SerialGemm({.m = rows,
                .n = n,
                .k = k,
                .a = args.a.as<float>() + block * rows * k,
                .lda = k,
                .b = args.b.as<float>() + args.block_expert[block] * n * k,
                .ldb = args.trans_b ? k : n,
                .trans_b = args.trans_b,
                .c = args.c.as<float>() + block * rows * n,
                .ldc = n});
  });
}

void CpuGroupedMatmulGradWeight(const GroupedMatmulGradWeightArgs& args, const KernelContext& ctx) {
  const int64_t n = args.n, k = args.k, rows = args.block_rows;
  const int32_t* const blocks_end = args.block_expert + *args.active_blocks;
  const int64_t tiles = (n + kGradTileRows - 1) / kGradTileRows;
  // Tile-major, so that a thread's share holds all experts however the tokens are spread.
  ParallelFor(ctx.threads, tiles * args.e, [&](int64_t item) {
    const int64_t expert = item % args.e, row_begin = item / args.e * kGradTileRows;
    const int64_t tile_rows = std::min(kGradTileRows, n - row_begin);
    float* dw = args.dw.as<float>() + (expert * n + row_begin) * k;
    const auto [first, last] = std::equal_range(args.block_expert, blocks_end, static_cast<int32_t>(expert));
    if (first == last && !args.accumulate) std::fill_n(dw, tile_rows * k, 0.0f);
    for (const int32_t* block = first; block != last; ++block) {
      const int64_t row = (block - args.block_expert) * rows;
      SerialGemm({.m = tile_rows,
                  .n = k,
                  .k = rows,
                  .a = args.dy.as<float>() + row * n + row_begin,
                  .lda = n,
                  .trans_a = true,
                  .b = args.x.as<float>() + row * k,
                  .ldb = k,
                  .c = dw,
                  .ldc = k,
                  .accumulate = args.accumulate || block != first});
    }
  });
}

}  // namespace angel_ptm
