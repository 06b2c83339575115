#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

namespace angel_ptm {

void CpuMatmul(const MatmulArgs& args, const KernelContext& ctx) {
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

}  // namespace angel_ptm
