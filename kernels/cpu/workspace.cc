#include "kernels/cpu/workspace.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/lanes.h"

namespace angel_ptm {
namespace {

int64_t FloatBytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(float)); }

absl::Status Fp32Only(const char* op, std::initializer_list<DType> dtypes) {
  for (const DType dtype : dtypes) {
    if (dtype == DType::kFloat32) continue;
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: ", op, " takes F32 operands, got ", Name(dtype)));
  }
  return absl::OkStatus();
}

absl::Status BelowInt32(const char* op, std::initializer_list<int64_t> extents) {
  for (const int64_t extent : extents) {
    if (extent > 0 && extent <= std::numeric_limits<int32_t>::max()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: ", op, " takes extents from 1 to 2^31 - 1, got ", extent));
  }
  return absl::OkStatus();
}

absl::Status HeadsSupported(const char* op, int64_t q_heads, int64_t kv_heads, int64_t d) {
  if (d < 2 || d > kHeadDimMax || d % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: ", op, " takes an even head dimension from 2 to ", kHeadDimMax, ", got ", d));
  }
  if (kv_heads < 1 || q_heads < 1 || q_heads % kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: ", op,
                                                   " takes query heads that are a multiple of key-value heads, got ",
                                                   q_heads, " and ", kv_heads));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t CpuWorkspaceBytes(const MatmulArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const EmbeddingArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const EmbeddingGradArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const AddRmsNormArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const AddRmsNormGradArgs& args, int) { return FloatBytes(TokenBlocks(args.t) * args.h); }
int64_t CpuWorkspaceBytes(const RopeTableArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const QkRopeNormArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const QkRopeNormGradArgs& args, int) { return FloatBytes(TokenBlocks(args.t) * 2 * args.d); }
int64_t CpuWorkspaceBytes(const AttentionArgs& args, int threads) {
  const int64_t tasks = args.b * args.q_heads * ((args.s + kAttentionTile - 1) / kAttentionTile);
  return FloatBytes(std::min<int64_t>(threads, tasks) * AttentionScratch(args.d));
}
int64_t CpuWorkspaceBytes(const AttentionGradArgs& args, int threads) {
  return FloatBytes(std::min<int64_t>(threads, args.b * args.kv_heads) * AttentionGradScratch(args.s, args.d));
}
int64_t CpuWorkspaceBytes(const CachedAttentionArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const SwigluArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const SwigluGradArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const RouterArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const RouterGradArgs& args, int) { return FloatBytes(args.t * args.e); }
int64_t CpuWorkspaceBytes(const ExpertLayoutArgs& args, int) { return args.e * int64_t{sizeof(int32_t)}; }
int64_t CpuWorkspaceBytes(const DispatchArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const DispatchGradArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const GroupedMatmulArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const GroupedMatmulGradWeightArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const CombineArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const CombineGradArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const LinearCrossEntropyArgs& args, int) {
  return FloatBytes(std::min(args.chunk_tokens, args.t) * args.v);
}
int64_t CpuWorkspaceBytes(const SquareSumArgs&, int) { return 0; }
int64_t CpuWorkspaceBytes(const AdamWArgs&, int) { return 0; }

absl::Status CpuSupports(const MatmulArgs& args) {
  RETURN_IF_ERROR(Fp32Only("matmul", {args.c.dtype, args.a.dtype, args.b.dtype}));
  return BelowInt32("matmul", {args.m, args.n, args.k});
}
absl::Status CpuSupports(const RopeTableArgs& args) {
  RETURN_IF_ERROR(Fp32Only("rope_table", {args.cos_sin.dtype}));
  RETURN_IF_ERROR(HeadsSupported("rope_table", 1, 1, args.d));
  if (args.alpha > 0 && args.d == 2) {
    return absl::InvalidArgumentError("cpu backend: rope_table with alpha > 0 takes a head dimension above 2, got 2");
  }
  return absl::OkStatus();
}
absl::Status CpuSupports(const QkRopeNormArgs& args) {
  RETURN_IF_ERROR(Fp32Only("qk_rope_norm", {args.q.dtype, args.k.dtype, args.qkv.dtype}));
  return HeadsSupported("qk_rope_norm", args.q_heads, args.kv_heads, args.d);
}
absl::Status CpuSupports(const QkRopeNormGradArgs& args) {
  RETURN_IF_ERROR(Fp32Only("qk_rope_norm_grad", {args.dqkv.dtype, args.qkv.dtype}));
  return HeadsSupported("qk_rope_norm_grad", args.q_heads, args.kv_heads, args.d);
}
absl::Status CpuSupports(const AttentionArgs& args) {
  RETURN_IF_ERROR(Fp32Only("attention", {args.o.dtype, args.q.dtype, args.k.dtype, args.v.dtype}));
  RETURN_IF_ERROR(BelowInt32("attention", {args.b, args.s}));
  return HeadsSupported("attention", args.q_heads, args.kv_heads, args.d);
}
absl::Status CpuSupports(const AttentionGradArgs& args) {
  RETURN_IF_ERROR(Fp32Only("attention_grad", {args.dq.dtype, args.q.dtype, args.k.dtype, args.v.dtype}));
  RETURN_IF_ERROR(BelowInt32("attention_grad", {args.b, args.s}));
  return HeadsSupported("attention_grad", args.q_heads, args.kv_heads, args.d);
}
absl::Status CpuSupports(const CachedAttentionArgs& args) {
  RETURN_IF_ERROR(Fp32Only("cached_attention", {args.o.dtype, args.q.dtype, args.k.dtype, args.v.dtype}));
  RETURN_IF_ERROR(BelowInt32("cached_attention", {args.b, args.s_max}));
  return HeadsSupported("cached_attention", args.q_heads, args.kv_heads, args.d);
}
absl::Status CpuSupports(const RouterArgs& args) {
  RETURN_IF_ERROR(Fp32Only("router", {args.x.dtype, args.gate.dtype}));
  RETURN_IF_ERROR(BelowInt32("router", {args.t, args.h, args.e}));
  if (args.k < 1 || args.k > args.e) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: router chooses from 1 to all of its ", args.e, " experts, got ", args.k));
  }
  return absl::OkStatus();
}
absl::Status CpuSupports(const ExpertLayoutArgs& args) {
  RETURN_IF_ERROR(BelowInt32("expert_layout", {args.t, args.k, args.e, args.block_rows}));
  // Rows and pairs are numbered in 32 bits; there are at least as many rows as pairs.
  const int64_t rows = args.t * args.k + args.e * (args.block_rows - 1);
  if (rows > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: expert_layout takes up to 2^31 - 1 padded rows, got ",
                                                   args.t, " * ", args.k, " + ", args.e, " * (", args.block_rows,
                                                   " - 1) = ", rows));
  }
  return absl::OkStatus();
}
absl::Status CpuSupports(const LinearCrossEntropyArgs& args) {
  RETURN_IF_ERROR(Fp32Only("linear_cross_entropy", {args.x.dtype, args.weight.dtype}));
  return BelowInt32("linear_cross_entropy", {args.t, args.h, args.v, args.chunk_tokens});
}
absl::Status CpuSupports(const SquareSumArgs& args) {
  RETURN_IF_ERROR(Fp32Only("square_sum", {args.values.dtype}));
  if (args.n % kSquareSumGroup != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: square_sum takes a multiple of ", kSquareSumGroup, " elements, got ", args.n));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
