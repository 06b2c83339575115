#include "kernels/cuda/cuda_kernels.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/dtype.h"
#include "kernels/cuda/asks.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/op_kind.h"
#include "kernels/operand.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/add.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/add_rows.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "kernels/ops/cast.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/concat.h"
#include "kernels/ops/conv2d.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/ema.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/expert_layout.h"
#include "kernels/ops/gated_add.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/group_norm.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/hybrid_loss.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/loss_sum.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/mean_pool.h"
#include "kernels/ops/norm_rope.h"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/relative_attention.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/router.h"
#include "kernels/ops/silu.h"
#include "kernels/ops/split.h"
#include "kernels/ops/square_sum.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/weighted_mse.h"

// The ops that have a kernel. All others are refused. (clang-format would realign these backslashes every time.)
// clang-format off
#define APTM_CUDA_OPS(OP) \
  OP(Embedding) OP(EmbeddingGrad) OP(AddRmsNorm) OP(AddRmsNormGrad) OP(Matmul) OP(RopeTable) OP(QkRopeNorm) \
  OP(QkRopeNormGrad) OP(Attention) OP(AttentionGrad) OP(CachedAttention) OP(Swiglu) OP(SwigluGrad) OP(Router) \
  OP(RouterGrad) OP(ExpertLayout) OP(Dispatch) OP(DispatchGrad) OP(GroupedMatmul) OP(GroupedMatmulGradWeight) \
  OP(Combine) OP(CombineGrad) OP(LinearCrossEntropy) OP(SquareSum) OP(AdamW) OP(Add) OP(Ema) OP(Gelu) \
  OP(GeluGrad) OP(LossSum) OP(Cast) OP(Silu) OP(SiluGrad) OP(LayerNorm) OP(LayerNormGrad) OP(GatedAdd) \
  OP(GatedAddGrad) OP(AddRows) OP(AddRowsGrad) OP(NormRope) OP(NormRopeGrad) OP(MeanPool) OP(MeanPoolGrad) \
  OP(WeightedMse) OP(Concat) OP(Split) OP(HybridLoss) OP(RelativeAttention) OP(Conv2d) OP(Conv2dGradInput) \
  OP(Conv2dGradWeight) OP(GroupNorm) OP(GroupNormGrad)
// clang-format on

namespace angel_ptm::cuda {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kRowTilesMax = 65535 * int64_t{64};  // rows: limited by the second extent of a grid
constexpr int64_t kExpertsMax = 8192;                  // counted in shared memory
constexpr int64_t kNormWidthMax = 40960;               // likewise, fp32 columns of the gradient of a weight
constexpr int64_t kTurnedDimMax = 256, kWideDimMax = 256;

constexpr DType kFp32 = DType::kFloat32, kBf16 = DType::kBFloat16;

absl::Status CanRun(const CastArgs& a) {
  return Asks("cast").Fp32OrBf16({{"x", a.x}, {"y", a.y}}).That(a.x.dtype != a.y.dtype, "x and y of two types");
}
absl::Status CanRun(const AddArgs& a) { return Asks("add").Alike({{"y", a.y}, {"x", a.x, true}}); }
absl::Status CanRun(const SwigluArgs& a) { return Asks("swiglu").Alike({{"y", a.y}, {"gate_up", a.gate_up}}); }
absl::Status CanRun(const SwigluGradArgs& a) {
  return Asks("swiglu_grad").Alike({{"dy", a.dy}, {"dgate_up", a.dgate_up}, {"gate_up", a.gate_up}});
}
absl::Status CanRun(const GeluArgs& a) { return Asks("gelu").Alike({{"x", a.x}, {"y", a.y}}); }
absl::Status CanRun(const GeluGradArgs& a) { return Asks("gelu_grad").Alike({{"x", a.x}, {"dx", a.dx}, {"dy", a.dy}}); }
absl::Status CanRun(const AddRmsNormArgs& a) {
  return Asks("add_rms_norm")
      .Alike({{"x", a.x}, {"y", a.y}, {"weight", a.weight}, {"sum", a.sum, true}, {"delta", a.delta, true}})
      .All(kFp32, {{"rstd", a.rstd}})
      .Range("tokens", a.t, 1, kInt32Max);
}
absl::Status CanRun(const AddRmsNormGradArgs& a) {
  return Asks("add_rms_norm_grad")
      .Alike({{"dy", a.dy}, {"sum", a.sum}, {"weight", a.weight}, {"dx", a.dx, true}, {"dsum", a.dsum, true}})
      .ResultOf({"dy", a.dy}, {{"dweight", a.dweight}})
      .All(kFp32, {{"rstd", a.rstd}})
      .Range("tokens", a.t, 1, kInt32Max)
      .Range("a width", a.h, 1, kNormWidthMax);
}
absl::Status CanRun(const AdamWArgs& a) {
  const bool rounds = a.param.dtype == kBf16,
             misses_master = rounds ? a.param && !a.master : static_cast<bool>(a.master);
  return Asks("adamw")
      .Fp32OrBf16({{"param", a.param}})
      .That(!misses_master, "param in F32 without a master or in BF16 with one")
      .All(kFp32, {{"master", a.master}, {"m", a.m}, {"v", a.v}})
      .Fp32OrBf16({{"grad", a.grad}})
      .That(rounds || a.grad.dtype == kFp32, "grad in F32 beside param in F32");
}
absl::Status CanRun(const EmaArgs& a) { return Asks("ema").All(kFp32, {{"ema", a.ema}, {"param", a.param}}); }
absl::Status CanRun(const SquareSumArgs& a) {
  return Asks("square_sum").Fp32OrBf16({{"values", a.values}}).MultipleOf("a number", a.n, kSquareSumGroup);
}
absl::Status CanRun(const LossSumArgs& a) {
  return Asks("loss_sum").All(kFp32, {{"values", a.values}, {"batch_weight", a.batch_weight}});
}
absl::Status CanRun(const EmbeddingArgs& a) {
  return Asks("embedding").Alike({{"y", a.y}, {"table", a.table}}).Range("tokens", a.t, 1, kInt32Max);
}
absl::Status CanRun(const EmbeddingGradArgs& a) {
  return Asks("embedding_grad")
      .Fp32OrBf16({{"dy", a.dy}})
      .ResultOf({"dy", a.dy}, {{"dtable", a.dtable}})
      .Range("tokens", a.t, 1, kInt32Max);
}
absl::Status CanRun(const MatmulArgs& a) {
  return Asks("matmul")
      .Alike({{"a", a.a}, {"b", a.b}})
      .ResultOf({"a", a.a}, {{"c", a.c}})
      .Range("rows", a.m, 1, kRowTilesMax)
      .Range("columns", a.n, 1, kInt32Max)
      .Range("a length", a.k, 1, kInt32Max);
}
template <typename Args>
absl::Status Grouped(Asks asks, const Args& a) {
  return asks.Range("experts", a.e, 1, kExpertsMax)
      .Range("rows", a.blocks_max * a.block_rows, 1, kRowTilesMax)
      .Range("n", a.n, 1, kRowTilesMax)
      .Range("k", a.k, 1, kRowTilesMax);
}
absl::Status CanRun(const GroupedMatmulArgs& a) {
  return Grouped(Asks("grouped_matmul").Alike({{"a", a.a}, {"b", a.b}}).ResultOf({"a", a.a}, {{"c", a.c}}), a);
}
absl::Status CanRun(const GroupedMatmulGradWeightArgs& a) {
  return Grouped(
      Asks("grouped_matmul_grad_weight").Alike({{"dy", a.dy}, {"x", a.x}}).ResultOf({"x", a.x}, {{"dw", a.dw}}), a);
}
absl::Status CanRun(const RopeTableArgs& a) {
  return Asks("rope_table")
      .All(kFp32, {{"cos_sin", a.cos_sin}})
      .Range("a head dimension", a.d, a.alpha > 0 ? 3 : 2, kTurnedDimMax)
      .MultipleOf("a head dimension", a.d, 2);
}
template <typename Args>
absl::Status Heads(Asks asks, const Args& a, int64_t d_max, int64_t d_unit) {
  return asks.Range("a head dimension", a.d, d_unit, d_max)
      .MultipleOf("a head dimension", a.d, d_unit)
      .Range("key-value heads", a.kv_heads, 1, kInt32Max)
      .Range("query heads", a.q_heads, 1, kInt32Max)
      .MultipleOf("a number of query heads", a.q_heads, std::max<int64_t>(a.kv_heads, 1));
}
absl::Status CanRun(const QkRopeNormArgs& a) {
  return Heads(Asks("qk_rope_norm")
                   .Alike({{"qkv", a.qkv}, {"q", a.q}, {"k", a.k}, {"q_weight", a.q_weight}, {"k_weight", a.k_weight}})
                   .All(kFp32, {{"q_rstd", a.q_rstd}, {"k_rstd", a.k_rstd}, {"cos_sin", a.cos_sin}}),
               a, kTurnedDimMax, 2);
}
absl::Status CanRun(const QkRopeNormGradArgs& a) {
  return Heads(Asks("qk_rope_norm_grad")
                   .Alike({{"qkv", a.qkv},
                           {"dqkv", a.dqkv},
                           {"dq", a.dq},
                           {"dk", a.dk},
                           {"q_weight", a.q_weight},
                           {"k_weight", a.k_weight}})
                   .ResultOf({"dq", a.dq}, {{"dq_weight", a.dq_weight}, {"dk_weight", a.dk_weight}})
                   .All(kFp32, {{"q_rstd", a.q_rstd}, {"k_rstd", a.k_rstd}, {"cos_sin", a.cos_sin}}),
               a, kTurnedDimMax, 2);
}
template <typename Args>
Asks TiledAttention(const char* op, const Args& a) {
  return Asks(op)
      .Alike({{"q", a.q}, {"k", a.k}, {"v", a.v}, {"o", a.o}})
      .All(kFp32, {{"lse", a.lse}})
      .Range("keys of a row", a.keys, 0, kRowTilesMax)
      .Range("rows", a.b, 1, kInt32Max / std::max<int64_t>(a.q_heads, 1))
      .Range("tokens of a row", a.s, 1, kRowTilesMax);
}
template <typename Args>
absl::Status AttentionHeads(Asks asks, const Args& a) {
  if (a.keys == 0 || a.d <= kTiledDimMax) return Heads(asks, a, kTiledDimMax, 8);
  return Heads(asks.Range("keys of a row of wide heads", a.keys, 1, kWideKeysMax)
                   .Range("tokens", a.b * std::max(a.s, a.keys), 1, kInt32Max),
               a, kWideDimMax, 8);
}
absl::Status CanRun(const AttentionArgs& a) { return AttentionHeads(TiledAttention("attention", a), a); }
absl::Status CanRun(const AttentionGradArgs& a) {
  return AttentionHeads(
      TiledAttention("attention_grad", a).Alike({{"q", a.q}, {"do", a.do_}, {"dq", a.dq}, {"dk", a.dk}, {"dv", a.dv}}),
      a);
}
absl::Status CanRun(const CachedAttentionArgs& a) {
  return Heads(
      Asks("cached_attention")
          .Alike({{"q", a.q}, {"k", a.k}, {"v", a.v}, {"o", a.o}, {"k_cache", a.k_cache}, {"v_cache", a.v_cache}})
          .Range("rows", a.b, 1, kInt32Max / std::max<int64_t>(a.q_heads, 1))
          .Range("tokens of a row", a.s_max, 1, kInt32Max - 1),
      a, kTurnedDimMax, 1);
}
absl::Status CanRun(const RelativeAttentionArgs& a) {
  return Asks("relative_attention")
      .Alike({{"qkv", a.qkv}, {"o", a.o}, {"table", a.table}})
      .Range("queries of all heads", a.b * a.s * a.heads, 1, kInt32Max)
      .Range("head dimensions", a.d, 1, kTurnedDimMax);
}
template <typename Args>
Asks Routing(const char* op, const Args& a) {
  return Asks(op)
      .Alike({{"x", a.x}, {"gate", a.gate}})
      .All(kFp32, {{"weights", a.weights}, {"probs", a.probs}})
      .Range("tokens", a.t, 1, kRowTilesMax)
      .Range("experts", a.e, 1, kExpertsMax)
      .Range("choices of a token", a.k, 1, a.e);
}
absl::Status CanRun(const RouterArgs& a) { return Routing("router", a); }
absl::Status CanRun(const RouterGradArgs& a) {
  return Routing("router_grad", a)
      .Alike({{"x", a.x}, {"dx", a.dx, true}})
      .ResultOf({"x", a.x}, {{"dgate", a.dgate}})
      .All(kFp32, {{"dweights", a.dweights}});
}
absl::Status CanRun(const ExpertLayoutArgs& a) {
  return Asks("expert_layout")
      .Range("experts", a.e, 1, kExpertsMax)
      .Range("padded rows", a.t * a.k + a.e * (a.block_rows - 1), 1, kInt32Max);
}
absl::Status CanRun(const DispatchArgs& a) { return Asks("dispatch").Alike({{"x", a.x}, {"rows", a.rows}}); }
absl::Status CanRun(const DispatchGradArgs& a) {
  return Asks("dispatch_grad").Alike({{"dx", a.dx}, {"drows", a.drows}});
}
absl::Status CanRun(const CombineArgs& a) {
  return Asks("combine")
      .Alike({{"y", a.y}, {"base", a.base, true}, {"rows", a.rows}})
      .All(kFp32, {{"weights", a.weights}});
}
absl::Status CanRun(const CombineGradArgs& a) {
  return Asks("combine_grad")
      .Alike({{"dy", a.dy}, {"drows", a.drows}, {"rows", a.rows}})
      .All(kFp32, {{"dweights", a.dweights}, {"weights", a.weights}});
}
absl::Status CanRun(const LinearCrossEntropyArgs& a) {
  return Asks("linear_cross_entropy")
      .Alike({{"x", a.x}, {"weight", a.weight}})
      .ResultOf({"x", a.x}, {{"dx", a.dx}, {"dweight", a.dweight}})
      .All(kFp32, {{"token_loss", a.token_loss}})
      .Range("tokens of a chunk", a.chunk_tokens, 1, kRowTilesMax)
      .Range("a width", a.h, 1, kInt32Max)
      .Range("a vocabulary", a.v, 1, kRowTilesMax);
}

absl::Status CanRun(const SiluArgs& a) { return Asks("silu").Alike({{"x", a.x}, {"y", a.y}}); }
absl::Status CanRun(const SiluGradArgs& a) { return Asks("silu_grad").Alike({{"x", a.x}, {"dx", a.dx}, {"dy", a.dy}}); }
absl::Status CanRun(const LayerNormArgs& a) {
  return Asks("layer_norm")
      .Alike({{"x", a.x},
              {"y", a.y},
              {"weight", a.weight, true},
              {"bias", a.bias, true},
              {"modulation", a.modulation, true}})
      .All(kFp32, {{"statistics", a.statistics}})
      .Range("tokens", a.b * a.s, 1, kInt32Max);
}
absl::Status CanRun(const LayerNormGradArgs& a) {
  return Asks("layer_norm_grad")
      .Alike({{"dy", a.dy},
              {"x", a.x},
              {"dx", a.dx, true},
              {"dsum", a.dsum, true},
              {"weight", a.weight, true},
              {"bias", a.bias, true},
              {"modulation", a.modulation, true},
              {"dmodulation", a.dmodulation, true}})
      .ResultOf({"dy", a.dy}, {{"dweight", a.dweight}, {"dbias", a.dbias}})
      .All(kFp32, {{"statistics", a.statistics}})
      .Range("tokens", a.b * a.s, 1, kInt32Max);
}
absl::Status CanRun(const GatedAddArgs& a) {
  return Asks("gated_add").Alike({{"y", a.y}, {"x", a.x, true}, {"delta", a.delta}, {"modulation", a.modulation}});
}
absl::Status CanRun(const GatedAddGradArgs& a) {
  return Asks("gated_add_grad")
      .Alike({{"dy", a.dy},
              {"delta", a.delta},
              {"modulation", a.modulation},
              {"ddelta", a.ddelta, true},
              {"dmodulation", a.dmodulation, true}});
}
absl::Status CanRun(const AddRowsArgs& a) { return Asks("add_rows").Alike({{"x", a.x}, {"y", a.y}, {"rows", a.rows}}); }
absl::Status CanRun(const AddRowsGradArgs& a) {
  return Asks("add_rows_grad").Fp32OrBf16({{"dy", a.dy}}).ResultOf({"dy", a.dy}, {{"drows", a.drows}});
}
template <typename Args>
absl::Status NormedHeads(Asks asks, const Args& a) {
  return asks.All(kFp32, {{"cos_sin", a.cos_sin}})
      .Range("heads", a.heads, 1, kInt32Max)
      .Range("a head dimension", a.d, 2, kTurnedDimMax)
      .MultipleOf("a head dimension", a.d, 2);
}
absl::Status CanRun(const NormRopeArgs& a) {
  return NormedHeads(Asks("norm_rope").Alike({{"x", a.x}, {"y", a.y}, {"weight", a.weight}, {"bias", a.bias, true}}),
                     a);
}
absl::Status CanRun(const NormRopeGradArgs& a) {
  return NormedHeads(Asks("norm_rope_grad")
                         .Alike({{"x", a.x}, {"dy", a.dy}, {"weight", a.weight}, {"dx", a.dx, true}})
                         .ResultOf({"dy", a.dy}, {{"dweight", a.dweight}, {"dbias", a.dbias}}),
                     a);
}
absl::Status CanRun(const ConcatArgs& a) { return Asks("concat").Alike({{"y", a.y}, {"a", a.a}, {"b", a.b}}); }
absl::Status CanRun(const SplitArgs& a) {
  return Asks("split").Alike({{"x", a.x}, {"a", a.a, true}, {"b", a.b, true}});
}
absl::Status CanRun(const MeanPoolArgs& a) { return Asks("mean_pool").Alike({{"x", a.x}, {"y", a.y}}); }
absl::Status CanRun(const MeanPoolGradArgs& a) { return Asks("mean_pool_grad").Alike({{"dy", a.dy}, {"dx", a.dx}}); }
absl::Status CanRun(const WeightedMseArgs& a) {
  return Asks("weighted_mse")
      .Alike({{"x", a.x}, {"dx", a.dx, true}})
      .All(kFp32, {{"target", a.target}, {"weight", a.weight}, {"sample_loss", a.sample_loss}})
      .Range("samples", a.b, 1, kInt32Max);
}
absl::Status CanRun(const HybridLossArgs& a) {
  return Asks("hybrid_loss")
      .Alike({{"x", a.x}, {"dx", a.dx, true}})
      .All(kFp32, {{"target", a.target},
                   {"clean", a.clean},
                   {"weight", a.weight},
                   {"bound", a.bound},
                   {"sample_loss", a.sample_loss}})
      .Range("samples", a.b, 1, kInt32Max);
}

Asks Convolution(const char* op, const ConvShape& z) {
  return Asks(op)
      .Range("pixels", std::max(z.in_pixels(), z.out_pixels()), 1, kInt32Max)
      .Range("channels", std::max(z.in, z.out) * z.taps(), 1, kRowTilesMax);
}
absl::Status CanRun(const Conv2dArgs& a) {
  return Convolution("conv2d", a.shape).Alike({{"x", a.x}, {"y", a.y}, {"weight", a.weight}, {"bias", a.bias, true}});
}
absl::Status CanRun(const Conv2dGradInputArgs& a) {
  return Convolution("conv2d_grad_input", a.shape).Alike({{"dy", a.dy}, {"dx", a.dx}, {"weight", a.weight}});
}
absl::Status CanRun(const Conv2dGradWeightArgs& a) {
  return Convolution("conv2d_grad_weight", a.shape)
      .Alike({{"dy", a.dy}, {"x", a.x}})
      .ResultOf({"dy", a.dy}, {{"dweight", a.dweight}});
}
absl::Status CanRun(const GroupNormArgs& a) {
  return Asks("group_norm")
      .Alike({{"x", a.x}, {"y", a.y}, {"weight", a.weight}, {"bias", a.bias}})
      .All(kFp32, {{"statistics", a.statistics}})
      .Range("groups of all samples", a.b * a.groups, 1, 65535);
}
absl::Status CanRun(const GroupNormGradArgs& a) {
  return Asks("group_norm_grad")
      .Alike({{"dy", a.dy}, {"x", a.x}, {"dx", a.dx, true}, {"weight", a.weight}, {"bias", a.bias}})
      .ResultOf({"dy", a.dy}, {{"dweight", a.dweight}, {"dbias", a.dbias}})
      .All(kFp32, {{"statistics", a.statistics}});
}

template <typename Args>
struct Launcher;  // how an op with a kernel is launched
#define APTM_CUDA_OP(Kind)                                                                                 \
  template <>                                                                                              \
  struct Launcher<Kind##Args> {                                                                            \
    static void Run(const Kind##Args& args, const LaunchContext& context) { Launch##Kind(args, context); } \
  };
APTM_CUDA_OPS(APTM_CUDA_OP)
#undef APTM_CUDA_OP

template <typename Args>
int64_t Workspace(const Args& args, const BackendOptions&) {
  if constexpr (requires { cuda::WorkspaceBytes(args); }) {
    return cuda::WorkspaceBytes(args);
  } else {
    return 0;
  }
}

template <typename Args>
void Run(const Args& args, const KernelContext& context) {
  Launcher<Args>::Run(args, {.stream = context.stream, .workspace = context.workspace});
}

// The entry of ops that have no kernel.
template <OpKind kKind, typename Args>
absl::Status Refuse(const Args&) {
  return absl::InvalidArgumentError(absl::StrCat("cuda backend: ", Name(kKind), " has no CUDA kernel"));
}
template <typename Args>
int64_t NoWorkspace(const Args&, const BackendOptions&) {
  return 0;
}
template <OpKind kKind, typename Args>
void RunNothing(const Args&, const KernelContext&) {
  APTM_CHECK(false, Name(kKind), " has no CUDA kernel");
}

template <OpKind kKind, typename Args>
Kernel<Args> Entry() {
  if constexpr (requires { &Launcher<Args>::Run; }) {
    return {[](const Args& args) { return CanRun(args); }, &Workspace<Args>, &Run<Args>};
  } else {
    return {&Refuse<kKind, Args>, &NoWorkspace<Args>, &RunNothing<kKind, Args>};
  }
}

}  // namespace
}  // namespace angel_ptm::cuda

namespace angel_ptm {

const KernelTable& CudaKernels() {
  static const KernelTable table = {
      .name = "cuda",
      .alignment_bytes = 64,
#define APTM_OP(Kind, name) .name = cuda::Entry<OpKind::k##Kind, Kind##Args>(),
#include "kernels/ops.def"
  };
  return table;
}

}  // namespace angel_ptm
