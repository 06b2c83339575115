// Appends tensors and ops to a Graph, giving every op's outputs the shapes its shape rule demands.
#ifndef ANGEL_PTM_MODEL_GRAPH_BUILDER_H_
#define ANGEL_PTM_MODEL_GRAPH_BUILDER_H_

#include <memory>
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
  // Against the run's table, whose units and parameters, or some of them, are to be added again in its order and as
  // they are there; or with a new one that grows until Build.
  explicit GraphBuilder(std::string name, std::shared_ptr<const ParameterTable> table = nullptr);

  // Of a new table: the type of its parameters, which is what ops compute in. Before the first parameter.
  void ComputeIn(DType type) { growing_->states = {ParameterState(type)}; }
  // A unit added from now on that one of these patterns means (IsMeant) is not trained.
  void Freeze(std::vector<std::string> patterns) { freeze_ = std::move(patterns); }
  // Trainable units' parameters added from now on are read from that state (Graph::read_state).
  void ReadParametersFrom(StateId state) { graph_.read_state = state; }
  // Parameters of units of experts added from now on have their first dimension, experts, split over so many ranks:
  // ops read a part each.
  void SplitExperts(int degree) { expert_degree_ = degree; }
  UnitId AddUnit(std::string name, bool is_experts = false);
  // Behind the unit's other parameters. Returns its tensor; if the state it is read from has another type than ops
  // compute in, a copy of that type.
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
  Graph Build();
  // The same of a graph without backward or update.
  Graph BuildForward();

 private:
  Graph graph_;
  std::shared_ptr<ParameterTable> growing_;  // graph_.table; null if that is complete
  UnitId next_unit_ = 0;                     // of a complete table: behind the one added last
  ParameterId next_parameter_ = 0;
  Phase phase_ = Phase::kForward;
  int block_ = kNone;
  std::vector<std::string> freeze_;
  int expert_degree_ = 1;
};

// Appends the backward ops of a forward graph that ends in its loss, which thereby gets its gradient outputs, and sets
// the gradient_tensors of the units to be trained. Blocks whose entry in `recompute` is true keep only what they read
// of others, or the sum that their first op produces if that is a kAddRmsNorm, and rerun their forward ops before their
// backward ops (Chen et al. 2016); the same kernels on the same operands give the same bits.
void AppendBackward(GraphBuilder& builder, const std::vector<bool>& recompute);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_GRAPH_BUILDER_H_
