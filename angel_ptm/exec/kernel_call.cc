#include "angel_ptm/exec/kernel_call.h"

#include <cmath>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Reads an op's operands by slot.
struct Slots {
  const Graph& graph;
  const Op& op;
  const std::vector<void*>& address;

  TensorId Id(int slot) const {
    const int inputs = static_cast<int>(op.inputs.size());
    return slot < inputs ? op.inputs[slot] : op.outputs[slot - inputs];
  }
  int Out(int slot) const { return static_cast<int>(op.inputs.size()) + slot; }

  ConstOperand In(int slot) const { return {address[slot], TypeOf(slot)}; }
  Operand OutAt(int slot) const { return {address[Out(slot)], TypeOf(Out(slot))}; }
  const int32_t* InInts(int slot) const { return static_cast<const int32_t*>(address[slot]); }
  int32_t* OutInts(int slot) const { return static_cast<int32_t*>(address[Out(slot)]); }
  // Extent i of an operand's shape.
  int64_t Dim(int slot, int i) const { return graph.tensors[Id(slot)].shape[i]; }
  int64_t OutDim(int slot, int i) const { return Dim(Out(slot), i); }

 private:
  DType TypeOf(int slot) const { return Id(slot) == kNone ? DType::kFloat32 : graph.tensors[Id(slot)].dtype; }
};

MatmulArgs Matmul(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  return {.c = s.OutAt(0),
          .a = s.In(0),
          .b = s.In(1),
          .m = s.OutDim(0, 0),
          .n = s.OutDim(0, 1),
          .k = s.Dim(0, a.trans_a ? 0 : 1),
          .trans_a = a.trans_a,
          .trans_b = a.trans_b,
          .accumulate = a.accumulate};
}

KernelArgs Norms(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  if (s.op.kind == OpKind::kAddRmsNorm) {
    return AddRmsNormArgs{.sum = s.OutAt(0),
                          .y = s.OutAt(1),
                          .rstd = s.OutAt(2),
                          .x = s.In(0),
                          .delta = s.In(1),
                          .weight = s.In(2),
                          .t = s.Dim(0, 0),
                          .h = s.Dim(0, 1),
                          .epsilon = a.epsilon};
  }
  return AddRmsNormGradArgs{.dx = s.OutAt(0),
                            .dweight = s.OutAt(1),
                            .dy = s.In(0),
                            .dsum = s.In(1),
                            .sum = s.In(2),
                            .rstd = s.In(3),
                            .weight = s.In(4),
                            .t = s.Dim(2, 0),
                            .h = s.Dim(2, 1),
                            .accumulate_dweight = a.accumulate_dw};
}

KernelArgs QkRopeNorm(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  if (s.op.kind == OpKind::kQkRopeNorm) {
    return QkRopeNormArgs{.q = s.OutAt(0),
                          .k = s.OutAt(1),
                          .q_rstd = s.OutAt(2),
                          .k_rstd = s.OutAt(3),
                          .qkv = s.In(0),
                          .cos_sin = s.In(1),
                          .q_weight = s.In(2),
                          .k_weight = s.In(3),
                          .t = s.Dim(0, 0),
                          .q_heads = a.q_heads,
                          .kv_heads = a.kv_heads,
                          .d = a.head_dim,
                          .epsilon = a.epsilon};
  }
  return QkRopeNormGradArgs{.dqkv = s.OutAt(0),
                            .dq_weight = s.OutAt(1),
                            .dk_weight = s.OutAt(2),
                            .dq = s.In(0),
                            .dk = s.In(1),
                            .qkv = s.In(2),
                            .q_rstd = s.In(3),
                            .k_rstd = s.In(4),
                            .cos_sin = s.In(5),
                            .q_weight = s.In(6),
                            .k_weight = s.In(7),
                            .t = s.Dim(2, 0),
                            .q_heads = a.q_heads,
                            .kv_heads = a.kv_heads,
                            .d = a.head_dim,
                            .accumulate_dweight = a.accumulate_dw};
}

// The value columns of a [T, (Q+2G)*D] tensor: where they start, and how far tokens are apart.
template <typename OperandT>
OperandT ValueColumns(const OpAttrs& a, OperandT qkv) {
  if (qkv.data == nullptr) return qkv;
  const int64_t skip = (a.q_heads + a.kv_heads) * a.head_dim * SizeOf(qkv.dtype);
  using Pointer = decltype(qkv.data);
  if constexpr (std::is_same_v<Pointer, const void*>) {
    qkv.data = static_cast<const std::byte*>(qkv.data) + skip;
  } else {
    qkv.data = static_cast<std::byte*>(qkv.data) + skip;
  }
  return qkv;
}

KernelArgs Attention(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  const int64_t stride = (a.q_heads + 2 * a.kv_heads) * a.head_dim;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)));
  if (s.op.kind == OpKind::kAttention) {
    return AttentionArgs{.o = s.OutAt(0),
                         .lse = s.OutAt(1),
                         .q = s.In(0),
                         .k = s.In(1),
                         .v = ValueColumns(a, s.In(2)),
                         .v_stride = stride,
                         .segment_start = s.InInts(3),
                         .b = a.rows,
                         .s = a.sequence,
                         .q_heads = a.q_heads,
                         .kv_heads = a.kv_heads,
                         .d = a.head_dim,
                         .scale = scale};
  }
  if (s.op.kind == OpKind::kCachedAttention) {
    return CachedAttentionArgs{.o = s.OutAt(0),
                               .k_cache = s.OutAt(1),
                               .v_cache = s.OutAt(2),
                               .q = s.In(0),
                               .k = s.In(1),
                               .v = ValueColumns(a, s.In(2)),
                               .v_stride = stride,
                               .position = s.InInts(3),
                               .b = a.rows,
                               .s_max = a.sequence,
                               .q_heads = a.q_heads,
                               .kv_heads = a.kv_heads,
                               .d = a.head_dim,
                               .scale = scale};
  }
  return AttentionGradArgs{.dq = s.OutAt(0),
                           .dk = s.OutAt(1),
                           .dv = ValueColumns(a, s.OutAt(2)),
                           .do_ = s.In(0),
                           .o = s.In(1),
                           .lse = s.In(2),
                           .q = s.In(3),
                           .k = s.In(4),
                           .v = ValueColumns(a, s.In(5)),
                           .v_stride = stride,
                           .dv_stride = stride,
                           .segment_start = s.InInts(6),
                           .b = a.rows,
                           .s = a.sequence,
                           .q_heads = a.q_heads,
                           .kv_heads = a.kv_heads,
                           .d = a.head_dim,
                           .scale = scale};
}

KernelArgs Router(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  if (s.op.kind == OpKind::kRouter) {
    return RouterArgs{.weights = s.OutAt(0),
                      .probs = s.OutAt(2),
                      .experts = s.OutInts(1),
                      .counts = s.OutInts(3),
                      .x = s.In(0),
                      .gate = s.In(1),
                      .t = s.Dim(0, 0),
                      .h = s.Dim(0, 1),
                      .e = a.experts,
                      .k = a.topk};
  }
  return RouterGradArgs{.dx = s.OutAt(0),
                        .dgate = s.OutAt(1),
                        .dweights = s.In(0),
                        .weights = s.In(1),
                        .probs = s.In(3),
                        .x = s.In(4),
                        .gate = s.In(5),
                        .experts = s.InInts(2),
                        .counts = s.InInts(6),
                        .target_count = s.In(7).as<float>(),
                        .aux_coefficient = a.aux_coefficient,
                        .t = s.Dim(4, 0),
                        .h = s.Dim(4, 1),
                        .e = a.experts,
                        .k = a.topk,
                        .accumulate_dx = a.accumulate,
                        .accumulate_dgate = a.accumulate_dw};
}

// Products of the experts' rows with their own weights.
KernelArgs GroupedMatmul(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  if (s.op.kind == OpKind::kGroupedMatmul) {
    return GroupedMatmulArgs{.c = s.OutAt(0),
                             .a = s.In(0),
                             .b = s.In(1),
                             .block_expert = s.InInts(2),
                             .active_blocks = s.InInts(3),
                             .n = s.OutDim(0, 1),
                             .k = s.Dim(0, 1),
                             .e = a.experts,
                             .block_rows = a.block_rows,
                             .blocks_max = s.Dim(0, 0) / a.block_rows,
                             .trans_b = a.trans_b};
  }
  return GroupedMatmulGradWeightArgs{.dw = s.OutAt(0),
                                     .dy = s.In(0),
                                     .x = s.In(1),
                                     .block_expert = s.InInts(2),
                                     .active_blocks = s.InInts(3),
                                     .n = s.Dim(0, 1),
                                     .k = s.Dim(1, 1),
                                     .e = a.experts,
                                     .block_rows = a.block_rows,
                                     .blocks_max = s.Dim(0, 0) / a.block_rows,
                                     .accumulate = a.accumulate_dw};
}

// Ops between tokens [T,...] and the padded rows of the experts [R,...].
KernelArgs ExpertRows(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  switch (s.op.kind) {
    case OpKind::kExpertLayout:
      return ExpertLayoutArgs{.row_of_pair = s.OutInts(0),
                              .pair_of_row = s.OutInts(1),
                              .block_expert = s.OutInts(2),
                              .active_blocks = s.OutInts(3),
                              .experts = s.InInts(0),
                              .t = s.Dim(0, 0),
                              .k = a.topk,
                              .e = a.experts,
                              .block_rows = a.block_rows,
                              .blocks_max = s.OutDim(2, 0)};
    case OpKind::kDispatch:
      return DispatchArgs{.rows = s.OutAt(0),
                          .x = s.In(0),
                          .pair_of_row = s.InInts(1),
                          .active_blocks = s.InInts(2),
                          .t = s.Dim(0, 0),
                          .h = s.Dim(0, 1),
                          .k = a.topk,
                          .block_rows = a.block_rows,
                          .blocks_max = s.OutDim(0, 0) / a.block_rows};
    case OpKind::kDispatchGrad:
      return DispatchGradArgs{.dx = s.OutAt(0),
                              .drows = s.In(0),
                              .row_of_pair = s.InInts(1),
                              .t = s.OutDim(0, 0),
                              .h = s.OutDim(0, 1),
                              .k = a.topk,
                              .accumulate = a.accumulate};
    case OpKind::kCombine:
      return CombineArgs{.y = s.OutAt(0),
                         .base = s.In(0),
                         .rows = s.In(1),
                         .weights = s.In(2),
                         .row_of_pair = s.InInts(3),
                         .t = s.Dim(0, 0),
                         .h = s.Dim(0, 1),
                         .k = a.topk};
    default:
      return CombineGradArgs{.drows = s.OutAt(0),
                             .dweights = s.OutAt(1),
                             .dy = s.In(0),
                             .rows = s.In(1),
                             .weights = s.In(2),
                             .pair_of_row = s.InInts(3),
                             .active_blocks = s.InInts(4),
                             .t = s.Dim(0, 0),
                             .h = s.Dim(0, 1),
                             .k = a.topk,
                             .block_rows = a.block_rows,
                             .blocks_max = s.Dim(1, 0) / a.block_rows};
  }
}

KernelArgs Swiglu(const Slots& s) {
  const OpAttrs& a = s.op.attrs;
  if (s.op.kind == OpKind::kSwiglu) {
    return SwigluArgs{.y = s.OutAt(0),
                      .gate_up = s.In(0),
                      .rows = s.Dim(0, 0),
                      .f = s.OutDim(0, 1),
                      .block_rows = a.block_rows,
                      .active_blocks = s.InInts(1)};
  }
  return SwigluGradArgs{.dgate_up = s.OutAt(0),
                        .dy = s.In(0),
                        .gate_up = s.In(1),
                        .rows = s.Dim(1, 0),
                        .f = s.Dim(0, 1),
                        .block_rows = a.block_rows,
                        .active_blocks = s.InInts(2)};
}

LinearCrossEntropyArgs LinearCrossEntropy(const Slots& s) {
  return {.token_loss = s.OutAt(0),
          .dx = s.OutAt(1),
          .dweight = s.OutAt(2),
          .x = s.In(0),
          .weight = s.In(1),
          .targets = s.InInts(2),
          .t = s.Dim(0, 0),
          .h = s.Dim(0, 1),
          .v = s.Dim(1, 0),
          .chunk_tokens = s.op.attrs.chunk_tokens,
          .accumulate_dweight = s.op.attrs.accumulate_dw};
}

// Runs the variant's alternative on the matching table entry.
struct Runner {
  const KernelTable& kernels;
  const KernelContext& context;

  void operator()(const std::monostate&) const { APTM_CHECK(false, "unbound kernel call"); }
  void operator()(const MatmulArgs& a) const { kernels.matmul(a, context); }
  void operator()(const EmbeddingArgs& a) const { kernels.embedding(a, context); }
  void operator()(const EmbeddingGradArgs& a) const { kernels.embedding_grad(a, context); }
  void operator()(const AddRmsNormArgs& a) const { kernels.add_rms_norm(a, context); }
  void operator()(const AddRmsNormGradArgs& a) const { kernels.add_rms_norm_grad(a, context); }
  void operator()(const RopeTableArgs& a) const { kernels.rope_table(a, context); }
  void operator()(const QkRopeNormArgs& a) const { kernels.qk_rope_norm(a, context); }
  void operator()(const QkRopeNormGradArgs& a) const { kernels.qk_rope_norm_grad(a, context); }
  void operator()(const AttentionArgs& a) const { kernels.attention(a, context); }
  void operator()(const AttentionGradArgs& a) const { kernels.attention_grad(a, context); }
  void operator()(const CachedAttentionArgs& a) const { kernels.cached_attention(a, context); }
  void operator()(const SwigluArgs& a) const { kernels.swiglu(a, context); }
  void operator()(const SwigluGradArgs& a) const { kernels.swiglu_grad(a, context); }
  void operator()(const RouterArgs& a) const { kernels.router(a, context); }
  void operator()(const RouterGradArgs& a) const { kernels.router_grad(a, context); }
  void operator()(const ExpertLayoutArgs& a) const { kernels.expert_layout(a, context); }
  void operator()(const DispatchArgs& a) const { kernels.dispatch(a, context); }
  void operator()(const DispatchGradArgs& a) const { kernels.dispatch_grad(a, context); }
  void operator()(const GroupedMatmulArgs& a) const { kernels.grouped_matmul(a, context); }
  void operator()(const GroupedMatmulGradWeightArgs& a) const { kernels.grouped_matmul_grad_weight(a, context); }
  void operator()(const CombineArgs& a) const { kernels.combine(a, context); }
  void operator()(const CombineGradArgs& a) const { kernels.combine_grad(a, context); }
  void operator()(const LinearCrossEntropyArgs& a) const { kernels.linear_cross_entropy(a, context); }
};

}  // namespace

TensorId NamingOutput(const Op& op) {
  for (TensorId output : op.outputs) {
    if (output != kNone) return output;
  }
  APTM_CHECK(false, Name(op.kind), " without outputs");
}

KernelArgs BindKernel(const Graph& graph, const Op& op, const std::vector<void*>& operands) {
  APTM_CHECK(operands.size() >= op.inputs.size() + op.outputs.size());
  const Slots s{graph, op, operands};
  switch (op.kind) {
    case OpKind::kEmbedding:
      return EmbeddingArgs{.y = s.OutAt(0),
                           .table = s.In(0),
                           .tokens = s.InInts(1),
                           .t = s.Dim(1, 0),
                           .h = s.Dim(0, 1),
                           .v = s.Dim(0, 0)};
    case OpKind::kEmbeddingGrad:
      return EmbeddingGradArgs{.dtable = s.OutAt(0),
                               .dy = s.In(0),
                               .tokens = s.InInts(1),
                               .t = s.Dim(0, 0),
                               .h = s.Dim(0, 1),
                               .v = s.OutDim(0, 0),
                               .accumulate = op.attrs.accumulate_dw};
    case OpKind::kAddRmsNorm:
    case OpKind::kAddRmsNormGrad:
      return Norms(s);
    case OpKind::kMatmul:
      return Matmul(s);
    case OpKind::kRopeTable:
      return RopeTableArgs{.cos_sin = s.OutAt(0),
                           .positions = s.InInts(0),
                           .t = s.Dim(0, 0),
                           .d = op.attrs.head_dim,
                           .theta = op.attrs.rope_theta,
                           .alpha = op.attrs.rope_alpha};
    case OpKind::kQkRopeNorm:
    case OpKind::kQkRopeNormGrad:
      return QkRopeNorm(s);
    case OpKind::kAttention:
    case OpKind::kAttentionGrad:
    case OpKind::kCachedAttention:
      return Attention(s);
    case OpKind::kSwiglu:
    case OpKind::kSwigluGrad:
      return Swiglu(s);
    case OpKind::kRouter:
    case OpKind::kRouterGrad:
      return Router(s);
    case OpKind::kExpertLayout:
    case OpKind::kDispatch:
    case OpKind::kDispatchGrad:
    case OpKind::kCombine:
    case OpKind::kCombineGrad:
      return ExpertRows(s);
    case OpKind::kGroupedMatmul:
    case OpKind::kGroupedMatmulGradWeight:
      return GroupedMatmul(s);
    case OpKind::kLinearCrossEntropy:
      return LinearCrossEntropy(s);
    case OpKind::kSquareSum:
    case OpKind::kAdamW:
      break;
  }
  APTM_CHECK(false, Name(op.kind), " is not a micro-step op");
}

void Run(const KernelTable& kernels, const KernelArgs& args, const KernelContext& context) {
  std::visit(Runner{kernels, context}, args);
}

}  // namespace angel_ptm
