// Reverse-mode differentiation of a graph: one backward rule per op kind, walked from the loss to the embedding.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

class Tape {
 public:
  explicit Tape(GraphBuilder& builder) : builder_(builder), gradient_of_(builder.graph().tensors.size(), kNone) {
    for (size_t p = 0; p < g().parameters.size(); ++p) parameter_of_[g().parameters[p].tensor] = p;
  }

  void Differentiate(OpId forward_op);

 private:
  struct ParameterGradient {
    TensorId tensor;
    bool accumulate;
  };

  Graph& g() { return builder_.graph(); }
  TensorId GradientOf(TensorId t) const { return gradient_of_[t]; }
  void SetGradient(TensorId t, TensorId gradient) { gradient_of_[t] = gradient; }

  // The gradient tensor of activation t to write or, if it exists, to add to.
  std::pair<TensorId, bool> GradientToWrite(TensorId t) {
    if (gradient_of_[t] != kNone) return {gradient_of_[t], true};
    return {NewGradient(t), false};
  }
  TensorId NewGradient(TensorId t) {
    const Tensor& forward = g().tensors[t];
    const TensorId gradient =
        builder_.AddTensor({.name = absl::StrCat("d ", forward.name), .shape = forward.shape, .dtype = forward.dtype});
    gradient_of_.resize(g().tensors.size(), kNone);
    gradient_of_[t] = gradient;
    return gradient;
  }
  ParameterGradient ParameterGradientOf(TensorId parameter_tensor);

  void MatmulRule(const Op& op);
  void GroupedMatmulRule(const Op& op);
  void AddRmsNormRule(const Op& op);
  void QkRopeNormRule(const Op& op);
  void AttentionRule(const Op& op);
  void RouterRule(const Op& op);
  void CombineRule(const Op& op);
  // The outputs of the op that made the tensor, one of a routing's tables; until an op is appended.
  const std::vector<TensorId>& ExpertLayoutOf(TensorId part);

  GraphBuilder& builder_;
  std::vector<TensorId> gradient_of_;
  absl::flat_hash_map<TensorId, size_t> parameter_of_;
};

Tape::ParameterGradient Tape::ParameterGradientOf(TensorId parameter_tensor) {
  Parameter& parameter = g().parameters[parameter_of_.at(parameter_tensor)];
  if (parameter.gradient != kNone) return {parameter.gradient, true};
  const Tensor& value = g().tensors[parameter_tensor];
  parameter.gradient = builder_.AddTensor({.name = absl::StrCat("d ", value.name),
                                           .shape = value.shape,
                                           .dtype = DType::kFloat32,
                                           .tensor_class = TensorClass::kGradient,
                                           .unit = value.unit,
                                           .unit_offset = value.unit_offset});
  gradient_of_.resize(g().tensors.size(), kNone);
  return {parameter.gradient, false};
}

// c = a b^T with a parameter b.
void Tape::MatmulRule(const Op& op) {
  APTM_CHECK(!op.attrs.trans_a && op.attrs.trans_b, "only x W^T is differentiated");
  const TensorId x = op.inputs[0], weight = op.inputs[1], dy = GradientOf(op.outputs[0]);
  const auto [dx, add_dx] = GradientToWrite(x);
  builder_.AppendInto(OpKind::kMatmul, {dx}, {dy, weight}, {.accumulate = add_dx});
  const auto [dw, add_dw] = ParameterGradientOf(weight);
  builder_.AppendInto(OpKind::kMatmul, {dw}, {dy, x}, {.trans_a = true, .accumulate = add_dw});
}

void Tape::GroupedMatmulRule(const Op& op) {
  const TensorId x = op.inputs[0], weight = op.inputs[1], dy = GradientOf(op.outputs[0]);
  const TensorId block_expert = op.inputs[2], active_blocks = op.inputs[3];
  OpAttrs attrs{.experts = op.attrs.experts, .block_rows = op.attrs.block_rows};
  builder_.AppendInto(OpKind::kGroupedMatmul, {NewGradient(x)}, {dy, weight, block_expert, active_blocks}, attrs);
  const auto [dw, add_dw] = ParameterGradientOf(weight);
  attrs.accumulate_dw = add_dw;
  builder_.AppendInto(OpKind::kGroupedMatmulGradWeight, {dw}, {dy, x, block_expert, active_blocks}, attrs);
}

// sum = x + delta; y = norm(sum). x and delta get the same gradient tensor; neither is used after the sum.
void Tape::AddRmsNormRule(const Op& op) {
  const TensorId x = op.inputs[0], delta = op.inputs[1], weight = op.inputs[2];
  const TensorId sum = delta == kNone ? x : op.outputs[0];
  const TensorId dy = GradientOf(op.outputs[1]), dsum = GradientOf(sum);
  const TensorId dx = NewGradient(sum);
  const auto [dweight, add] = ParameterGradientOf(weight);
  builder_.AppendInto(OpKind::kAddRmsNormGrad, {dx, dweight}, {dy, dsum, sum, op.outputs[2], weight},
                      {.accumulate_dw = add, .epsilon = op.attrs.epsilon});
  if (delta != kNone) {
    APTM_CHECK(GradientOf(x) == kNone && GradientOf(delta) == kNone, "operand of a residual sum is used again later");
    SetGradient(x, dx);
    SetGradient(delta, dx);
  }
}

void Tape::QkRopeNormRule(const Op& op) {
  const TensorId dq = GradientOf(op.outputs[0]), dk = GradientOf(op.outputs[1]);
  const TensorId qkv = op.inputs[0], q_weight = op.inputs[2], k_weight = op.inputs[3];
  const auto [dq_weight, add] = ParameterGradientOf(q_weight);
  const auto [dk_weight, add_k] = ParameterGradientOf(k_weight);
  APTM_CHECK(add == add_k);
  OpAttrs attrs = op.attrs;
  attrs.accumulate_dw = add;
  builder_.AppendInto(OpKind::kQkRopeNormGrad, {GradientOf(qkv), dq_weight, dk_weight},
                      {dq, dk, qkv, op.outputs[2], op.outputs[3], op.inputs[1], q_weight, k_weight}, attrs);
}

void Tape::AttentionRule(const Op& op) {
  const TensorId q = op.inputs[0], k = op.inputs[1], qkv = op.inputs[2];
  const TensorId d_o = GradientOf(op.outputs[0]);
  const TensorId dq = NewGradient(q), dk = NewGradient(k), dqkv = NewGradient(qkv);
  builder_.AppendInto(OpKind::kAttentionGrad, {dq, dk, dqkv},
                      {d_o, op.outputs[0], op.outputs[1], q, k, qkv, op.inputs[3]}, op.attrs);
}

void Tape::RouterRule(const Op& op) {
  const TensorId x = op.inputs[0], gate = op.inputs[1];
  const TensorId weights = op.outputs[0], experts = op.outputs[1], probs = op.outputs[2], counts = op.outputs[3];
  const auto [dx, add_dx] = GradientToWrite(x);
  const auto [dgate, add_dgate] = ParameterGradientOf(gate);
  OpAttrs attrs = op.attrs;
  attrs.accumulate = add_dx;
  attrs.accumulate_dw = add_dgate;
  builder_.AppendInto(OpKind::kRouterGrad, {dx, dgate},
                      {GradientOf(weights), weights, experts, probs, x, gate, counts, g().FindTensor("target_count")},
                      attrs);
}

const std::vector<TensorId>& Tape::ExpertLayoutOf(TensorId part) {
  const std::vector<TensorId>* found = nullptr;
  for (const Op& op : g().ops) {
    if (op.kind == OpKind::kExpertLayout && std::ranges::find(op.outputs, part) != op.outputs.end())
      found = &op.outputs;
  }
  APTM_CHECK(found != nullptr, g().tensors[part].name);
  return *found;
}

void Tape::CombineRule(const Op& op) {
  const TensorId base = op.inputs[0], rows = op.inputs[1], weights = op.inputs[2];
  const TensorId dy = GradientOf(op.outputs[0]);
  const std::vector<TensorId>& layout = ExpertLayoutOf(op.inputs[3]);
  const TensorId pair_of_row = layout[1], active_blocks = layout[3];
  SetGradient(base, dy);
  const TensorId drows = NewGradient(rows), dweights = NewGradient(weights);
  builder_.AppendInto(OpKind::kCombineGrad, {drows, dweights}, {dy, rows, weights, pair_of_row, active_blocks},
                      op.attrs);
}

void Tape::Differentiate(OpId forward_op) {
  const Op op = g().ops[forward_op];  // a copy: rules append to g().ops
  switch (op.kind) {
    case OpKind::kLinearCrossEntropy: {
      const TensorId dx = NewGradient(op.inputs[0]);
      const auto [dweight, add] = ParameterGradientOf(op.inputs[1]);
      g().ops[forward_op].outputs[1] = dx;
      g().ops[forward_op].outputs[2] = dweight;
      g().ops[forward_op].attrs.accumulate_dw = add;
      return;
    }
    case OpKind::kMatmul:
      return MatmulRule(op);
    case OpKind::kGroupedMatmul:
      return GroupedMatmulRule(op);
    case OpKind::kAddRmsNorm:
      return AddRmsNormRule(op);
    case OpKind::kQkRopeNorm:
      return QkRopeNormRule(op);
    case OpKind::kAttention:
      return AttentionRule(op);
    case OpKind::kSwiglu:
      builder_.AppendInto(OpKind::kSwigluGrad, {NewGradient(op.inputs[0])},
                          {GradientOf(op.outputs[0]), op.inputs[0], op.inputs[1]}, op.attrs);
      return;
    case OpKind::kRouter:
      return RouterRule(op);
    case OpKind::kDispatch: {
      const auto [dx, add] = GradientToWrite(op.inputs[0]);
      const TensorId row_of_pair = ExpertLayoutOf(op.inputs[1])[0];
      OpAttrs attrs = op.attrs;
      attrs.accumulate = add;
      builder_.AppendInto(OpKind::kDispatchGrad, {dx}, {GradientOf(op.outputs[0]), row_of_pair}, attrs);
      return;
    }
    case OpKind::kCombine:
      return CombineRule(op);
    case OpKind::kEmbedding: {
      const auto [dtable, add] = ParameterGradientOf(op.inputs[0]);
      builder_.AppendInto(OpKind::kEmbeddingGrad, {dtable}, {GradientOf(op.outputs[0]), op.inputs[1]},
                          {.accumulate_dw = add, .rows = g().tensors[op.inputs[0]].shape[0]});
      return;
    }
    case OpKind::kRopeTable:
    case OpKind::kExpertLayout:
      return;  // nothing differentiable
    default:
      APTM_CHECK(false, "no backward rule for ", Name(op.kind));
  }
}

// Reruns block `block`'s forward ops, as far as the ops from `first_backward_op` on read their results, before those
// ops.
class Recomputation {
 public:
  Recomputation(Graph& graph, int block, size_t first_backward_op)
      : g_(graph), block_(block), first_(first_backward_op) {}

  void Insert() {
    CollectProducers();
    for (size_t i = first_; i < g_.ops.size(); ++i) {
      for (TensorId t : g_.ops[i].inputs) Need(t);
    }
    for (size_t i = 0; i < block_ops_.size(); ++i) {
      if (needed_[i]) clones_.push_back(Clone(g_.ops[block_ops_[i]], i == 0));
    }
    for (size_t i = first_; i < g_.ops.size(); ++i) {
      for (TensorId& t : g_.ops[i].inputs) t = Remap(t);
    }
    g_.ops.insert(g_.ops.begin() + first_, clones_.begin(), clones_.end());
  }

 private:
  void CollectProducers() {
    for (size_t i = 0; i < first_; ++i) {
      if (g_.ops[i].block != block_ || g_.ops[i].phase != Phase::kForward) continue;
      for (TensorId t : g_.ops[i].outputs) {
        if (t != kNone) producer_[t] = block_ops_.size();
      }
      block_ops_.push_back(i);
    }
    needed_.assign(block_ops_.size(), false);
    APTM_CHECK(!block_ops_.empty() && g_.ops[block_ops_[0]].kind == OpKind::kAddRmsNorm,
               "a recomputation block starts with kAddRmsNorm");
    const Op& head = g_.ops[block_ops_[0]];
    checkpoint_ = head.inputs[1] == kNone ? head.inputs[0] : head.outputs[0];
  }

  bool Kept(TensorId t) const {
    return t == kNone || t == checkpoint_ || !producer_.contains(t) ||
           g_.tensors[t].tensor_class != TensorClass::kActivation;
  }

  void Need(TensorId t) {
    if (Kept(t)) return;
    const size_t op = producer_.at(t);
    if (needed_[op]) return;
    needed_[op] = true;
    if (op == 0) return;  // restarts from the checkpoint
    for (TensorId input : g_.ops[block_ops_[op]].inputs) Need(input);
  }

  TensorId Remap(TensorId t) const {
    const auto it = clone_of_.find(t);
    return it == clone_of_.end() ? t : it->second;
  }

  Op Clone(const Op& forward, bool head) {
    Op clone = forward;
    clone.phase = Phase::kRecompute;
    if (head) {
      clone.inputs[0] = checkpoint_;
      clone.inputs[1] = kNone;
      clone.outputs[0] = kNone;
    }
    for (TensorId& t : clone.inputs) t = Remap(t);
    for (TensorId& t : clone.outputs) {
      if (t == kNone) continue;
      Tensor tensor = g_.tensors[t];
      absl::StrAppend(&tensor.name, " again");
      tensor.tensor_class = TensorClass::kActivation;
      g_.tensors.push_back(std::move(tensor));
      const TensorId copy = static_cast<TensorId>(g_.tensors.size()) - 1;
      if (!Kept(t)) clone_of_[t] = copy;
      t = copy;
    }
    return clone;
  }

  Graph& g_;
  const int block_;
  const size_t first_;
  TensorId checkpoint_ = kNone;
  std::vector<size_t> block_ops_;
  std::vector<bool> needed_;
  absl::flat_hash_map<TensorId, size_t> producer_;
  absl::flat_hash_map<TensorId, TensorId> clone_of_;
  std::vector<Op> clones_;
};

}  // namespace

void AppendBackward(GraphBuilder& builder, const std::vector<bool>& recompute) {
  Graph& graph = builder.graph();
  builder.SetPhase(Phase::kBackward);
  Tape tape(builder);
  const OpId forward_ops = static_cast<OpId>(graph.ops.size());
  APTM_CHECK(forward_ops > 0 && graph.ops.back().kind == OpKind::kLinearCrossEntropy, "the graph must end in a loss");
  for (OpId end = forward_ops; end > 0;) {
    const int block = graph.ops[end - 1].block;
    OpId begin = end;
    while (begin > 0 && graph.ops[begin - 1].block == block) --begin;
    builder.SetBlock(block);
    const size_t first_backward_op = graph.ops.size();
    for (OpId op = end - 1; op >= begin; --op) tape.Differentiate(op);
    if (block != kNone && recompute[block]) Recomputation(graph, block, first_backward_op).Insert();
    end = begin;
  }
  builder.SetBlock(kNone);
  graph.update_begin = static_cast<OpId>(graph.ops.size());
}

}  // namespace angel_ptm
