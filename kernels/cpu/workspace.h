// What the host backend needs and accepts, as pure functions of an op's shape (operand addresses are not looked at).
// This is how its share of plan/'s BackendFacts is made.
#ifndef ANGEL_PTM_KERNELS_CPU_WORKSPACE_H_
#define ANGEL_PTM_KERNELS_CPU_WORKSPACE_H_

#include <cstdint>

#include "angel_ptm/base/status.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// The workspace and every operand without a stride start at a multiple of this.
inline constexpr int64_t kCpuAlignmentBytes = 64;

// Bytes of KernelContext::workspace the op uses with that many threads; 0 for ops without scratch. Attention's is
// linear in the row length S (backward) or independent of it (forward).
int64_t CpuWorkspaceBytes(const MatmulArgs& args, int threads);
int64_t CpuWorkspaceBytes(const EmbeddingArgs& args, int threads);
int64_t CpuWorkspaceBytes(const EmbeddingGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const AddRmsNormArgs& args, int threads);
int64_t CpuWorkspaceBytes(const AddRmsNormGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const RopeTableArgs& args, int threads);
int64_t CpuWorkspaceBytes(const QkRopeNormArgs& args, int threads);
int64_t CpuWorkspaceBytes(const QkRopeNormGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const AttentionArgs& args, int threads);
int64_t CpuWorkspaceBytes(const AttentionGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const CachedAttentionArgs& args, int threads);
int64_t CpuWorkspaceBytes(const SwigluArgs& args, int threads);
int64_t CpuWorkspaceBytes(const SwigluGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const RouterArgs& args, int threads);
int64_t CpuWorkspaceBytes(const RouterGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const ExpertLayoutArgs& args, int threads);
int64_t CpuWorkspaceBytes(const DispatchArgs& args, int threads);
int64_t CpuWorkspaceBytes(const DispatchGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const GroupedMatmulArgs& args, int threads);
int64_t CpuWorkspaceBytes(const GroupedMatmulGradWeightArgs& args, int threads);
int64_t CpuWorkspaceBytes(const CombineArgs& args, int threads);
int64_t CpuWorkspaceBytes(const CombineGradArgs& args, int threads);
int64_t CpuWorkspaceBytes(const LinearCrossEntropyArgs& args, int threads);
int64_t CpuWorkspaceBytes(const SquareSumArgs& args, int threads);
int64_t CpuWorkspaceBytes(const AdamWArgs& args, int threads);

// OK if the backend runs the op's shapes and dtypes; otherwise kInvalidArgument with one sentence that names the op,
// what it got and what it takes. Ops without an overload of their own run any fp32 shape whose extents are below 2^31;
// for those that work on expert rows, expert_layout's bounds the number of rows.
absl::Status CpuSupports(const MatmulArgs& args);
absl::Status CpuSupports(const RopeTableArgs& args);
absl::Status CpuSupports(const QkRopeNormArgs& args);
absl::Status CpuSupports(const QkRopeNormGradArgs& args);
absl::Status CpuSupports(const AttentionArgs& args);
absl::Status CpuSupports(const AttentionGradArgs& args);
absl::Status CpuSupports(const CachedAttentionArgs& args);
absl::Status CpuSupports(const RouterArgs& args);
absl::Status CpuSupports(const ExpertLayoutArgs& args);
absl::Status CpuSupports(const LinearCrossEntropyArgs& args);
absl::Status CpuSupports(const SquareSumArgs& args);
template <typename Args>
absl::Status CpuSupports(const Args&) {
  return absl::OkStatus();
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_WORKSPACE_H_
