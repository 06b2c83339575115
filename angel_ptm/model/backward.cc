// Reverse-mode differentiation of a graph, block by block from the loss to the embedding, and recomputation.
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/model/tape.h"

namespace angel_ptm {
namespace {

// Inserts copies of the forward ops of block `block` whose results are read by the ops from `first_backward_op` on,
// before those ops.
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
    APTM_CHECK(!block_ops_.empty());
    const Op& head = g_.ops[block_ops_[0]];
    sums_first_ = head.kind == OpKind::kAddRmsNorm;
    if (!sums_first_) return;
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
    if (op == 0 && sums_first_) return;  // recomputed from the checkpoint
    for (TensorId input : g_.ops[block_ops_[op]].inputs) Need(input);
  }

  TensorId Remap(TensorId t) const {
    const auto it = clone_of_.find(t);
    return it == clone_of_.end() ? t : it->second;
  }

  Op Clone(const Op& forward, bool head) {
    Op clone = forward;
    clone.phase = Phase::kRecompute;
    if (head && sums_first_) {
      clone.inputs[0] = checkpoint_;
      clone.inputs[1] = kNone;
      clone.outputs[0] = kNone;
    }
    for (TensorId& t : clone.inputs) t = Remap(t);
    for (TensorId& t : clone.outputs) {
      // Sums that are kept across micro-batches include this op's contribution already.
      if (t != kNone && g_.tensors[t].tensor_class == TensorClass::kCache) t = kNone;
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
  bool sums_first_ = false;  // the first op produces the sum that is kept
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
  APTM_CHECK(graph.loss != kNone && graph.loss == forward_ops - 1, "the graph must end in its loss");
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
