// The host backend's functions, one per entry of KernelTable, each in the file of its name (gradients with their op).
// Contracts are those of the argument structs in kernels/kernels.h; every operand here is fp32 unless said there.
#ifndef ANGEL_PTM_KERNELS_CPU_CPU_OPS_H_
#define ANGEL_PTM_KERNELS_CPU_CPU_OPS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

void CpuMatmul(const MatmulArgs& args, const KernelContext& ctx);
void CpuEmbedding(const EmbeddingArgs& args, const KernelContext& ctx);
void CpuEmbeddingGrad(const EmbeddingGradArgs& args, const KernelContext& ctx);
void CpuAddRmsNorm(const AddRmsNormArgs& args, const KernelContext& ctx);
void CpuAddRmsNormGrad(const AddRmsNormGradArgs& args, const KernelContext& ctx);
void CpuRopeTable(const RopeTableArgs& args, const KernelContext& ctx);
void CpuQkRopeNorm(const QkRopeNormArgs& args, const KernelContext& ctx);
void CpuQkRopeNormGrad(const QkRopeNormGradArgs& args, const KernelContext& ctx);
void CpuAttention(const AttentionArgs& args, const KernelContext& ctx);
void CpuAttentionGrad(const AttentionGradArgs& args, const KernelContext& ctx);
void CpuCachedAttention(const CachedAttentionArgs& args, const KernelContext& ctx);
void CpuSwiglu(const SwigluArgs& args, const KernelContext& ctx);
void CpuSwigluGrad(const SwigluGradArgs& args, const KernelContext& ctx);
void CpuRouter(const RouterArgs& args, const KernelContext& ctx);
void CpuRouterGrad(const RouterGradArgs& args, const KernelContext& ctx);
void CpuExpertLayout(const ExpertLayoutArgs& args, const KernelContext& ctx);
void CpuDispatch(const DispatchArgs& args, const KernelContext& ctx);
void CpuDispatchGrad(const DispatchGradArgs& args, const KernelContext& ctx);
void CpuGroupedMatmul(const GroupedMatmulArgs& args, const KernelContext& ctx);
void CpuGroupedMatmulGradWeight(const GroupedMatmulGradWeightArgs& args, const KernelContext& ctx);
void CpuCombine(const CombineArgs& args, const KernelContext& ctx);
void CpuCombineGrad(const CombineGradArgs& args, const KernelContext& ctx);
void CpuLinearCrossEntropy(const LinearCrossEntropyArgs& args, const KernelContext& ctx);
void CpuSquareSum(const SquareSumArgs& args, const KernelContext& ctx);
void CpuAdamW(const AdamWArgs& args, const KernelContext& ctx);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CPU_OPS_H_
