// The kernels by wgmma and TMA as table entries (cuda_kernels.h).
#include "absl/strings/str_cat.h"
#include "kernels/cuda/asks.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {
namespace cuda {
namespace {

// Requirements in addition to those of the plainer kernels: tensor maps need rows of multiples of 16 bytes.
constexpr int64_t kRowUnit = 8;  // elements

absl::Status Wants(const MatmulArgs& a) {
  return Asks("matmul on sm_90a")
      .All(DType::kBFloat16, {{"a", a.a}})
      .MultipleOf("a length of a's rows", a.trans_a ? a.m : a.k, kRowUnit)
      .MultipleOf("a length of b's rows", a.trans_b ? a.k : a.n, kRowUnit);
}
absl::Status Wants(const GroupedMatmulArgs& a) {
  return Asks("grouped_matmul on sm_90a")
      .All(DType::kBFloat16, {{"a", a.a}})
      .MultipleOf("a length of a's rows", a.k, kRowUnit)
      .MultipleOf("a length of b's rows", a.trans_b ? a.k : a.n, kRowUnit);
}
absl::Status Wants(const GroupedMatmulGradWeightArgs& a) {
  return Asks("grouped_matmul_grad_weight on sm_90a")
      .All(DType::kBFloat16, {{"x", a.x}})
      .MultipleOf("a length of dy's rows", a.n, kRowUnit)
      .MultipleOf("a length of x's rows", a.k, kRowUnit)
      .MultipleOf("a number of rows of blocks", a.block_rows, kSm90aBlockRows);
}
template <typename Args>
Asks AttentionByWgmma(const char* op, const Args& a) {
  return Asks(op)
      .All(DType::kBFloat16, {{"q", a.q}})
      .Range("a head dimension", a.d, 1, kTiledDimMax)
      .MultipleOf("a length of v's rows", a.v_stride, a.d)  // the strides of tensor maps require it
      .That(a.scale > 0, absl::StrCat("a scale above 0, got ", a.scale));
}
absl::Status Wants(const AttentionArgs& a) { return AttentionByWgmma("attention on sm_90a", a); }
absl::Status Wants(const AttentionGradArgs& a) {
  return AttentionByWgmma("attention_grad on sm_90a", a).MultipleOf("a length of dv's rows", a.dv_stride, a.d);
}

template <typename Args, void (*kLaunch)(const Args&, const LaunchContext&)>
Kernel<Args> KernelBy() {
  return {.can_run = [](const Args& args) -> absl::Status {
            RETURN_IF_ERROR(KernelOf<Args>(CudaKernels()).can_run(args));
            return Wants(args);
          },
          .workspace_bytes = KernelOf<Args>(CudaKernels()).workspace_bytes,
          .run =
              [](const Args& args, const KernelContext& context) {
                kLaunch(args, {.stream = context.stream, .workspace = context.workspace});
              }};
}

}  // namespace
}  // namespace cuda

Kernel<MatmulArgs> CudaMatmulSm90a() { return cuda::KernelBy<MatmulArgs, &cuda::LaunchMatmulSm90a>(); }
Kernel<GroupedMatmulArgs> CudaGroupedMatmulSm90a() {
  return cuda::KernelBy<GroupedMatmulArgs, &cuda::LaunchGroupedMatmulSm90a>();
}
Kernel<GroupedMatmulGradWeightArgs> CudaGroupedMatmulGradWeightSm90a() {
  return cuda::KernelBy<GroupedMatmulGradWeightArgs, &cuda::LaunchGroupedMatmulGradWeightSm90a>();
}
Kernel<AttentionArgs> CudaAttentionSm90a() { return cuda::KernelBy<AttentionArgs, &cuda::LaunchAttentionSm90a>(); }
Kernel<AttentionGradArgs> CudaAttentionGradSm90a() {
  return cuda::KernelBy<AttentionGradArgs, &cuda::LaunchAttentionGradSm90a>();
}

}  // namespace angel_ptm
