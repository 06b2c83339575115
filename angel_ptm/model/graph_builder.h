// Appends tensors and ops to a Graph, giving every op's outputs the shapes its shape rule demands.
#ifndef ANGEL_PTM_MODEL_GRAPH_BUILDER_H_
#define ANGEL_PTM_MODEL_GRAPH_BUILDER_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct OutputSpec {
  std::string_view suffix;  // names the output tensor: "<op name>.<suffix>"
  Shape shape;
  DType dtype = DType::kFloat32;
};

// What an op's outputs must be, by slot, given its inputs (OpRules::shapes). An absent optional output has an empty
// suffix. CHECK-fails on operands that do not fit, since configurations were validated before any graph is built.
std::vector<OutputSpec> InferOutputs(const Graph& graph, OpKind kind, const std::vector<TensorId>& inputs,
                                     const OpAttrs& attrs);

class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name) { graph_.name = std::move(name); }
  // Goes on with a graph that has its forward ops already.
  explicit GraphBuilder(Graph graph) : graph_(std::move(graph)) {}

  // A unit added from now on whose name matches one of these (base/text.h, MatchesPattern) is not trained.
  void Freeze(std::vector<std::string> patterns) { freeze_ = std::move(patterns); }
  UnitId AddUnit(std::string name);
  // Adds a parameter at the end of the unit's flat vector and returns its tensor.
  TensorId AddParameter(UnitId unit, std::string name, Shape shape, InitialValues initial, bool weight_decay,
                        std::vector<ExportedName> exported);
  TensorId AddTensor(Tensor tensor);
  TensorId AddInput(std::string name, Shape shape, DType dtype);

  // Appends an op and creates its outputs as activations. Returns the outputs by slot.
  std::vector<TensorId> Append(OpKind kind, std::string_view name, std::vector<TensorId> inputs, OpAttrs attrs = {});
  // Appends an op that writes given tensors; their shapes must be what the shape rule says.
  void AppendInto(OpKind kind, std::vector<TensorId> outputs, std::vector<TensorId> inputs, OpAttrs attrs = {});

  // Ops appended from now on carry this phase and recomputation block.
  void SetPhase(Phase phase) { phase_ = phase; }
  void SetBlock(int block) { block_ = block; }

  Graph& graph() { return graph_; }
  Graph Build() { return std::move(graph_); }

 private:
  Graph graph_;
  Phase phase_ = Phase::kForward;
  int block_ = kNone;
  std::vector<std::string> freeze_;
};

// Appends the backward ops of a forward graph that ends in its loss, which thereby gets its gradient outputs, and sets
// Parameter::gradient of the units to be trained. Blocks whose entry in `recompute` is true keep only the sum their
// first op (a kAddRmsNorm) produces and rerun their forward ops before their backward ops (Chen et al. 2016); the same
// kernels on the same operands give the same bits.
void AppendBackward(GraphBuilder& builder, const std::vector<bool>& recompute);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_GRAPH_BUILDER_H_
