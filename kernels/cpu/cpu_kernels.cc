// The table of the host backend.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/kernels.h"

namespace angel_ptm {

const KernelTable& CpuKernels() {
  static constexpr KernelTable kTable = {
      .name = "cpu",
      .matmul = &CpuMatmul,
      .embedding = &CpuEmbedding,
      .embedding_grad = &CpuEmbeddingGrad,
      .add_rms_norm = &CpuAddRmsNorm,
      .add_rms_norm_grad = &CpuAddRmsNormGrad,
      .rope_table = &CpuRopeTable,
      .qk_rope_norm = &CpuQkRopeNorm,
      .qk_rope_norm_grad = &CpuQkRopeNormGrad,
      .attention = &CpuAttention,
      .attention_grad = &CpuAttentionGrad,
      .cached_attention = &CpuCachedAttention,
      .swiglu = &CpuSwiglu,
      .swiglu_grad = &CpuSwigluGrad,
      .router = &CpuRouter,
      .router_grad = &CpuRouterGrad,
      .expert_layout = &CpuExpertLayout,
      .dispatch = &CpuDispatch,
      .dispatch_grad = &CpuDispatchGrad,
      .grouped_matmul = &CpuGroupedMatmul,
      .grouped_matmul_grad_weight = &CpuGroupedMatmulGradWeight,
      .combine = &CpuCombine,
      .combine_grad = &CpuCombineGrad,
      .linear_cross_entropy = &CpuLinearCrossEntropy,
      .square_sum = &CpuSquareSum,
      .adamw = &CpuAdamW,
  };
  return kTable;
}

}  // namespace angel_ptm
