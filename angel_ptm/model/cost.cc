#include "angel_ptm/model/cost.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

double OperandBytes(const OpView& v) {
  double bytes = 0;
  for (const TensorId t : v.op.inputs) bytes += t == kNone ? 0 : static_cast<double>(v.graph.tensors[t].bytes());
  for (size_t i = 0; i < v.op.outputs.size(); ++i) {
    if (v.op.outputs[i] == kNone) continue;
    const bool added_to = Reads(AccessOf(v.op, static_cast<int>(v.op.inputs.size() + i)));
    bytes += static_cast<double>(v.graph.tensors[v.op.outputs[i]].bytes()) * (added_to ? 2 : 1);
  }
  return bytes;
}

}  // namespace

OpCost CostOf(const Graph& graph, const Op& op) {
  const OpRules& rules = RulesOf(op.kind);
  const OpView view{graph, op};
  return {.flops = rules.flops == nullptr ? 0 : rules.flops(view),
          .bytes = rules.bytes == nullptr ? OperandBytes(view) : rules.bytes(view)};
}

double ModelFlops(const Graph& graph) {
  double flops = 0;
  for (OpId i = 0; i < graph.update_begin; ++i) {
    if (graph.ops[i].phase != Phase::kRecompute) flops += CostOf(graph, graph.ops[i]).flops;
  }
  return flops;
}

}  // namespace angel_ptm
