// Products of many experts' weights with their tokens, as ordered chains (ordered_gemm.h): the bits of a row depend on
// its token and expert alone, so blocks of one expert may share a product and threads may cut anywhere.
#include "kernels/ops/grouped_matmul.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/ordered_gemm.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGradRowGrain = 14;  // rows of dw[e]: a whole number of register tiles

void Run(const GroupedMatmulArgs& args, const KernelContext& ctx) {
  const int64_t n = args.n, k = args.k, rows = args.block_rows;
  ParallelRanges(ctx.threads, *args.active_blocks, 1, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      // The run of this expert's blocks: its weights are read and packed once for all of them.
      const int32_t expert = args.block_expert[begin];
      const int64_t run_end =
          std::upper_bound(args.block_expert + begin, args.block_expert + end, expert) - args.block_expert;
      OrderedGemm({.m = (run_end - begin) * rows,
                   .n = n,
                   .k = k,
                   .a = args.a.as<float>() + begin * rows * k,
                   .a_row_stride = k,
                   .a_k_stride = 1,
                   .b = args.b.as<float>() + expert * n * k,
                   .ldb = args.trans_b ? k : n,
                   .trans_b = args.trans_b,
                   .c = args.c.as<float>() + begin * rows * n,
                   .ldc = n});
      begin = run_end;
    }
  });
}

void Run(const GroupedMatmulGradWeightArgs& args, const KernelContext& ctx) {
  const int64_t n = args.n, k = args.k;
  const int32_t* const blocks_end = args.block_expert + *args.active_blocks;
  // Every thread takes a range of rows of all experts' gradients: equal work however the tokens are spread.
  ParallelRanges(ctx.threads, n, kGradRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t expert = 0; expert < args.e; ++expert) {
      float* dw = args.dw.as<float>() + (expert * n + begin) * k;
      const auto [first, last] = std::equal_range(args.block_expert, blocks_end, static_cast<int32_t>(expert));
      if (first == last) {
        if (!args.accumulate) std::fill_n(dw, (end - begin) * k, 0.0f);
        continue;
      }
      const int64_t row = (first - args.block_expert) * args.block_rows;
      OrderedGemm({.m = end - begin,
                   .n = k,
                   .k = (last - first) * args.block_rows,
                   .a = args.dy.as<float>() + row * n + begin,
                   .a_row_stride = 1,
                   .a_k_stride = n,
                   .b = args.x.as<float>() + row * k,
                   .ldb = k,
                   .c = dw,
                   .ldc = k,
                   .accumulate = args.accumulate});
    }
  });
}

absl::Status CanRun(const GroupedMatmulArgs& args) {
  return Fp32Only("grouped_matmul", {args.c.dtype, args.a.dtype, args.b.dtype});
}

absl::Status CanRun(const GroupedMatmulGradWeightArgs& args) {
  return Fp32Only("grouped_matmul_grad_weight", {args.dw.dtype, args.dy.dtype, args.x.dtype});
}

}  // namespace

Kernel<GroupedMatmulArgs> CpuGroupedMatmul() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<GroupedMatmulGradWeightArgs> CpuGroupedMatmulGradWeight() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
