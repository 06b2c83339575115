#include "angel_ptm/model/cost.h"

namespace angel_ptm {
namespace {

double Elements(const Graph& graph, TensorId t) { return static_cast<double>(graph.tensors[t].shape.elements()); }

double AttentionFlops(const Op& op) {
  const OpAttrs& a = op.attrs;
  const double pairs = static_cast<double>(a.rows) * a.sequence * (a.sequence + 1) / 2;
  return 2 * 2 * pairs * a.q_heads * a.head_dim;  // q k^T and p v
}

double Flops(const Graph& graph, const Op& op) {
  const auto dim = [&](TensorId t, int i) { return static_cast<double>(graph.tensors[t].shape[i]); };
  switch (op.kind) {
    case OpKind::kMatmul: {
      const double k = dim(op.inputs[0], op.attrs.trans_a ? 0 : 1);
      return 2 * Elements(graph, op.outputs[0]) * k;
    }
    case OpKind::kAttention:
      return AttentionFlops(op);
    case OpKind::kAttentionGrad:
      return 2.5 * AttentionFlops(op);  // five products instead of two
    case OpKind::kCachedAttention:
      return 4.0 * op.attrs.rows * op.attrs.sequence * op.attrs.q_heads * op.attrs.head_dim;
    case OpKind::kRouter:
      return 2 * Elements(graph, op.inputs[0]) * op.attrs.experts;
    case OpKind::kRouterGrad:
      return 4 * Elements(graph, op.inputs[4]) * op.attrs.experts;
    case OpKind::kGroupedMatmul:
    case OpKind::kGroupedMatmulGradWeight: {
      // Real rows: T*K = R - E*(block-1), up to rounding (ExpertBlocksMax).
      const double rows = dim(op.inputs[0], 0) - static_cast<double>(op.attrs.experts) * (op.attrs.block_rows - 1);
      const TensorId other = op.kind == OpKind::kGroupedMatmul ? op.outputs[0] : op.inputs[1];
      return 2 * rows * dim(op.inputs[0], 1) * dim(other, 1);
    }
    case OpKind::kLinearCrossEntropy:
      return (op.outputs[1] == kNone ? 2 : 6) * Elements(graph, op.inputs[0]) * dim(op.inputs[1], 0);
    default:
      return 0;
  }
}

}  // namespace

double ModelFlops(const Graph& graph) {
  double flops = 0;
  for (OpId i = 0; i < graph.update_begin; ++i) {
    if (graph.ops[i].phase != Phase::kRecompute) flops += Flops(graph, graph.ops[i]);
  }
  return flops;
}

}  // namespace angel_ptm
