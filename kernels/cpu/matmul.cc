#include "kernels/ops/matmul.h"

#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"

namespace angel_ptm {
namespace {

void Run(const MatmulArgs& args, const KernelContext& ctx) {
  if (args.a.dtype == DType::kBFloat16) {
    MultiplyBf16(ctx.threads,
                 {.m = args.m,
                  .n = args.n,
                  .k = args.k,
                  .a = args.a.as<BFloat16>(),
                  .lda = args.trans_a ? args.m : args.k,
                  .trans_a = args.trans_a,
                  .b = args.b.as<BFloat16>(),
                  .ldb = args.trans_b ? args.k : args.n,
                  .trans_b = args.trans_b,
                  .c = args.c,
                  .ldc = args.n,
                  .accumulate = args.accumulate},
                 ctx.workspace);
    return;
  }
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

int64_t WorkspaceBytes(const MatmulArgs& args, const BackendOptions& options) {
  if (args.a.dtype != DType::kBFloat16) return 0;
  return Bf16ProductWorkspace(args.m, args.n, args.k, options.threads);
}

absl::Status CanRun(const MatmulArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("matmul", {.same = {{"a", args.a}, {"b", args.b}}, .same_or_fp32 = {{"c", args.c}}}));
  return BelowInt32("matmul", {args.m, args.n, args.k});
}

}  // namespace

Kernel<MatmulArgs> CpuMatmul() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
