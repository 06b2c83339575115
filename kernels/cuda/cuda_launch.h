// The ops of kernels/ops on a CUDA stream: arguments and contracts are those of the host backend, except that every
// pointer in them (also those to scalars, tokens and spans) must be accessible from the device. Called through
// CudaKernels() (cuda_kernels.h).
//
// A call enqueues kernels on the stream and returns; it allocates nothing. Results depend on operand values and shapes
// alone.
#ifndef ANGEL_PTM_KERNELS_CUDA_CUDA_LAUNCH_H_
#define ANGEL_PTM_KERNELS_CUDA_CUDA_LAUNCH_H_

#include <cstddef>
#include <cstdint>

namespace angel_ptm {

#define APTM_OP(Kind, name) struct Kind##Args;
#include "kernels/ops.def"

namespace cuda {

struct LaunchContext {
  void* stream = nullptr;          // a cudaStream_t
  std::byte* workspace = nullptr;  // device memory of the size the op's WorkspaceBytes says, 64-byte aligned
};

void LaunchCast(const CastArgs& args, const LaunchContext& context);
void LaunchAdd(const AddArgs& args, const LaunchContext& context);
void LaunchSwiglu(const SwigluArgs& args, const LaunchContext& context);
void LaunchSwigluGrad(const SwigluGradArgs& args, const LaunchContext& context);
void LaunchSilu(const SiluArgs& args, const LaunchContext& context);
void LaunchSiluGrad(const SiluGradArgs& args, const LaunchContext& context);
void LaunchLayerNorm(const LayerNormArgs& args, const LaunchContext& context);
void LaunchLayerNormGrad(const LayerNormGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const LayerNormGradArgs& args);
void LaunchGatedAdd(const GatedAddArgs& args, const LaunchContext& context);
void LaunchGatedAddGrad(const GatedAddGradArgs& args, const LaunchContext& context);
void LaunchAddRows(const AddRowsArgs& args, const LaunchContext& context);
void LaunchAddRowsGrad(const AddRowsGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const AddRowsGradArgs& args);
void LaunchConcat(const ConcatArgs& args, const LaunchContext& context);
void LaunchSplit(const SplitArgs& args, const LaunchContext& context);
void LaunchMeanPool(const MeanPoolArgs& args, const LaunchContext& context);
void LaunchMeanPoolGrad(const MeanPoolGradArgs& args, const LaunchContext& context);
void LaunchWeightedMse(const WeightedMseArgs& args, const LaunchContext& context);
void LaunchHybridLoss(const HybridLossArgs& args, const LaunchContext& context);
// A plain implementation: products of elements that are looked up one by one.
void LaunchConv2d(const Conv2dArgs& args, const LaunchContext& context);
void LaunchConv2dGradInput(const Conv2dGradInputArgs& args, const LaunchContext& context);
void LaunchConv2dGradWeight(const Conv2dGradWeightArgs& args, const LaunchContext& context);
void LaunchGroupNorm(const GroupNormArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const GroupNormArgs& args);
void LaunchGroupNormGrad(const GroupNormGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const GroupNormGradArgs& args);
void LaunchGelu(const GeluArgs& args, const LaunchContext& context);
void LaunchGeluGrad(const GeluGradArgs& args, const LaunchContext& context);
// d up to 256.
void LaunchRopeTable(const RopeTableArgs& args, const LaunchContext& context);
void LaunchQkRopeNorm(const QkRopeNormArgs& args, const LaunchContext& context);
void LaunchQkRopeNormGrad(const QkRopeNormGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const QkRopeNormGradArgs& args);
void LaunchNormRope(const NormRopeArgs& args, const LaunchContext& context);
void LaunchNormRopeGrad(const NormRopeGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const NormRopeGradArgs& args);
void LaunchCachedAttention(const CachedAttentionArgs& args, const LaunchContext& context);
void LaunchRelativeAttention(const RelativeAttentionArgs& args, const LaunchContext& context);
void LaunchAddRmsNorm(const AddRmsNormArgs& args, const LaunchContext& context);
void LaunchAddRmsNormGrad(const AddRmsNormGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const AddRmsNormGradArgs& args);
// These have the bits of the host backend.
void LaunchAdamW(const AdamWArgs& args, const LaunchContext& context);
void LaunchEma(const EmaArgs& args, const LaunchContext& context);
void LaunchSquareSum(const SquareSumArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const SquareSumArgs& args);
void LaunchLossSum(const LossSumArgs& args, const LaunchContext& context);
// bf16 operands with c in bf16 or fp32, or all in fp32. c and the operands are aligned to 16 bytes.
void LaunchMatmul(const MatmulArgs& args, const LaunchContext& context);
// The same for bf16 operands on sm_90a alone. Rows of a and b are multiples of 8 elements.
void LaunchMatmulSm90a(const MatmulArgs& args, const LaunchContext& context);
// bf16 x and weight with dx and dweight in bf16 or fp32, or all in fp32. All are aligned to 16 bytes.
void LaunchLinearCrossEntropy(const LinearCrossEntropyArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const LinearCrossEntropyArgs& args);
// bf16 operands with c and dw in bf16 or fp32, or all in fp32. All are aligned to 16 bytes.
void LaunchGroupedMatmul(const GroupedMatmulArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const GroupedMatmulArgs& args);
void LaunchGroupedMatmulGradWeight(const GroupedMatmulGradWeightArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const GroupedMatmulGradWeightArgs& args);
// The same for bf16 operands on sm_90a alone. Rows of a and b are multiples of 8 elements. Workspaces are the same.
void LaunchGroupedMatmulSm90a(const GroupedMatmulArgs& args, const LaunchContext& context);
// Likewise, with blocks of a multiple of this many rows.
inline constexpr std::int64_t kSm90aBlockRows = 16;
void LaunchGroupedMatmulGradWeightSm90a(const GroupedMatmulGradWeightArgs& args, const LaunchContext& context);
// Operands in bf16 or fp32, d a multiple of 8 up to 128. q, k and o are aligned to 16 bytes. v needs alignment to its
// elements only, but then costs time. Full attention also takes d up to 256 with at most kWideKeysMax keys per row, in
// a plain implementation (wide_attention.cu).
inline constexpr std::int64_t kTiledDimMax = 128, kWideKeysMax = 4096;
void LaunchAttention(const AttentionArgs& args, const LaunchContext& context);
void LaunchFmaAttention(const AttentionArgs& args, const LaunchContext& context);  // fp32 (attention_fma.cu)
void LaunchWideAttention(const AttentionArgs& args, const LaunchContext& context);
// For bf16 operands on sm_90a alone, with d up to 128 and a scale above zero. v is aligned like q, and its rows are
// multiples of d elements.
void LaunchAttentionSm90a(const AttentionArgs& args, const LaunchContext& context);
// Takes what LaunchAttention takes. dq, dk, do and o are aligned like q; dv like v.
void LaunchAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context);
// Takes what LaunchAttentionSm90a takes; dv and its rows are like v. The workspace is that of LaunchAttentionGrad.
void LaunchAttentionGradSm90a(const AttentionGradArgs& args, const LaunchContext& context);
void LaunchFmaAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context);
void LaunchWideAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const AttentionGradArgs& args);
// Operands in bf16 or fp32.
void LaunchRouter(const RouterArgs& args, const LaunchContext& context);
void LaunchRouterGrad(const RouterGradArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const RouterGradArgs& args);
// These give the row and block numbers of the host backend.
void LaunchExpertLayout(const ExpertLayoutArgs& args, const LaunchContext& context);
std::int64_t WorkspaceBytes(const ExpertLayoutArgs& args);
void LaunchDispatch(const DispatchArgs& args, const LaunchContext& context);
void LaunchDispatchGrad(const DispatchGradArgs& args, const LaunchContext& context);
void LaunchCombine(const CombineArgs& args, const LaunchContext& context);
void LaunchCombineGrad(const CombineGradArgs& args, const LaunchContext& context);
void LaunchEmbedding(const EmbeddingArgs& args, const LaunchContext& context);
void LaunchEmbeddingGrad(const EmbeddingGradArgs& args, const LaunchContext& context);

}  // namespace cuda
}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CUDA_CUDA_LAUNCH_H_
