#include "kernels/ops/matmul.h"

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"

namespace angel_ptm {
namespace {

void Run(const MatmulArgs& args, const KernelContext& ctx) {
  ParallelGemm(ctx.threads, {.m = args.m,
                             .n = args.n,
                             .k = args.k,
                             .a = args.a.as<float>(),
                             .lda = args.trans_a ? args.m : args.k,
                             .trans_a = args.trans_a,
                             .b = args.b.as<float>(),
                             .ldb = args.trans_b ? args.k : args.n,
                             .trans_b = args.trans_b,
                             .c = args.c.as<float>(),
                             .ldc = args.n,
                             .accumulate = args.accumulate});
}

absl::Status CanRun(const MatmulArgs& args) {
  RETURN_IF_ERROR(Fp32Only("matmul", {args.c.dtype, args.a.dtype, args.b.dtype}));
  return BelowInt32("matmul", {args.m, args.n, args.k});
}

}  // namespace

Kernel<MatmulArgs> CpuMatmul() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
