// Products of many experts' weights with their tokens, as ordered chains (ordered_gemm.h, bf16_product.h). The bits of
// a row depend on its token and expert alone, so blocks of one expert may share a product, and the split between
// threads may be anywhere.
#include "kernels/ops/grouped_matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/bf16_panels.h"
#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/ordered_gemm.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kGradRowGrain = 14;  // rows of dw[e]: a whole number of register tiles

bool IsBf16(const GroupedMatmulArgs& args) { return args.a.dtype == DType::kBFloat16; }
bool IsBf16(const GroupedMatmulGradWeightArgs& args) { return args.x.dtype == DType::kBFloat16; }

// Bytes of scratch memory of one thread's products.
int64_t ThreadWorkspace(const GroupedMatmulArgs& args) {
  return Bf16ProductWorkspace(args.blocks_max * args.block_rows, args.n, args.k, /*threads=*/1);
}
int64_t ThreadWorkspace(const GroupedMatmulGradWeightArgs& args) {
  return Bf16ProductWorkspace(args.n, args.k, args.blocks_max * args.block_rows, /*threads=*/1);
}

// Calls fn(begin, end, expert) for every run of blocks of one expert in [begin, end): the expert's weights are read and
// packed once per run.
template <typename Fn>
void ForEachRun(const GroupedMatmulArgs& args, int64_t begin, int64_t end, const Fn& fn) {
  while (begin < end) {
    const int32_t expert = args.block_expert[begin];
    const int64_t run_end =
        std::upper_bound(args.block_expert + begin, args.block_expert + end, expert) - args.block_expert;
    fn(begin, run_end, expert);
    begin = run_end;
  }
}

void RunFp32(const GroupedMatmulArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.n, k = args.k, rows = args.block_rows;
  ForEachRun(args, begin, end, [&](int64_t first, int64_t run_end, int64_t expert) {
    OrderedGemm({.m = (run_end - first) * rows,
                 .n = n,
                 .k = k,
                 .a = args.a.as<float>() + first * rows * k,
                 .a_row_stride = k,
                 .a_k_stride = 1,
                 .b = args.b.as<float>() + expert * n * k,
                 .ldb = args.trans_b ? k : n,
                 .trans_b = args.trans_b,
                 .c = args.c.as<float>() + first * rows * n,
                 .ldc = n});
  });
}

void RunBf16(const GroupedMatmulArgs& args, int64_t begin, int64_t end, std::byte* workspace) {
  const int64_t n = args.n, k = args.k, rows = args.block_rows;
  ForEachRun(args, begin, end, [&](int64_t first, int64_t run_end, int64_t expert) {
    MultiplyBf16(1,
                 {.m = (run_end - first) * rows,
                  .n = n,
                  .k = k,
                  .a = args.a.as<BFloat16>() + first * rows * k,
                  .lda = k,
                  .b = args.b.as<BFloat16>() + expert * n * k,
                  .ldb = args.trans_b ? k : n,
                  .trans_b = args.trans_b,
                  .c = At(args.c, first * rows * n),
                  .ldc = n},
                 workspace);
  });
}

void Run(const GroupedMatmulArgs& args, const KernelContext& ctx) {
  const int64_t bytes = IsBf16(args) ? ThreadWorkspace(args) : 0;
  ParallelRanges(ctx.threads, *args.active_blocks, 1, [&](int64_t begin, int64_t end, int part) {
    if (IsBf16(args)) {
      RunBf16(args, begin, end, ctx.workspace + part * bytes);
    } else {
      RunFp32(args, begin, end);
    }
  });
}

// Calls fn(expert, first row of its blocks, their number of rows) for every expert.
template <typename Fn>
void ForEachExpert(const GroupedMatmulGradWeightArgs& args, const Fn& fn) {
  const int32_t* const blocks_end = args.block_expert + *args.active_blocks;
  for (int64_t expert = 0; expert < args.e; ++expert) {
    const auto [first, last] = std::equal_range(args.block_expert, blocks_end, static_cast<int32_t>(expert));
    fn(expert, (first - args.block_expert) * args.block_rows, (last - first) * args.block_rows);
  }
}

// Computes rows [begin, end) of all experts' gradients.
void RunFp32(const GroupedMatmulGradWeightArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.n, k = args.k;
  ForEachExpert(args, [&](int64_t expert, int64_t row, int64_t rows) {
    float* dw = args.dw.as<float>() + (expert * n + begin) * k;
    if (rows == 0) {
      if (!args.accumulate) std::fill_n(dw, (end - begin) * k, 0.0f);
      return;
    }
    OrderedGemm({.m = end - begin,
                 .n = k,
                 .k = rows,
                 .a = args.dy.as<float>() + row * n + begin,
                 .a_row_stride = 1,
                 .a_k_stride = n,
                 .b = args.x.as<float>() + row * k,
                 .ldb = k,
                 .c = dw,
                 .ldc = k,
                 .accumulate = args.accumulate});
  });
}

void RunBf16(const GroupedMatmulGradWeightArgs& args, int64_t begin, int64_t end, std::byte* workspace) {
  const int64_t n = args.n, k = args.k;
  ForEachExpert(args, [&](int64_t expert, int64_t row, int64_t rows) {
    const Operand dw = At(args.dw, (expert * n + begin) * k);
    if (rows == 0) {
      if (!args.accumulate) std::memset(dw.data, 0, (end - begin) * k * SizeOf(dw.dtype));
      return;
    }
    MultiplyBf16(1,
                 {.m = end - begin,
                  .n = k,
                  .k = rows,
                  .a = args.dy.as<BFloat16>() + row * n + begin,
                  .lda = n,
                  .trans_a = true,
                  .b = args.x.as<BFloat16>() + row * k,
                  .ldb = k,
                  .c = dw,
                  .ldc = k,
                  .accumulate = args.accumulate},
                 workspace);
  });
}

// Every thread computes a range of rows of all experts' gradients: equal work however tokens are distributed over
// experts.
void Run(const GroupedMatmulGradWeightArgs& args, const KernelContext& ctx) {
  if (!IsBf16(args)) {
    ParallelRanges(ctx.threads, args.n, kGradRowGrain,
                   [&](int64_t begin, int64_t end, int) { RunFp32(args, begin, end); });
    return;
  }
  const int64_t bytes = ThreadWorkspace(args);
  ParallelRanges(ctx.threads, args.n, kTileRows, [&](int64_t begin, int64_t end, int part) {
    RunBf16(args, begin, end, ctx.workspace + part * bytes);
  });
}

template <typename Args>
int64_t WorkspaceBytes(const Args& args, const BackendOptions& options) {
  return IsBf16(args) ? options.threads * ThreadWorkspace(args) : 0;
}

absl::Status CanRun(const GroupedMatmulArgs& args) {
  return Fp32OrBf16("grouped_matmul", {.same = {{"a", args.a}, {"b", args.b}}, .same_or_fp32 = {{"c", args.c}}});
}

absl::Status CanRun(const GroupedMatmulGradWeightArgs& args) {
  return Fp32OrBf16("grouped_matmul_grad_weight",
                    {.same = {{"dy", args.dy}, {"x", args.x}}, .same_or_fp32 = {{"dw", args.dw}}});
}

}  // namespace

Kernel<GroupedMatmulArgs> CpuGroupedMatmul() { return {&CanRun, &WorkspaceBytes<GroupedMatmulArgs>, &Run}; }
Kernel<GroupedMatmulGradWeightArgs> CpuGroupedMatmulGradWeight() {
  return {&CanRun, &WorkspaceBytes<GroupedMatmulGradWeightArgs>, &Run};
}

}  // namespace angel_ptm
