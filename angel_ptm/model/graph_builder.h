// Appends tensors and ops to a Graph. Outputs get the shapes that the op's shape rule demands.
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

// The outputs that an op must have, by slot, given its inputs (OpRules::shapes). An absent optional output has an empty
// suffix. CHECK-fails on operands that do not fit, because configurations are validated before any graph is built.
std::vector<OutputSpec> InferOutputs(const Graph& graph, OpKind kind, const std::vector<TensorId>& inputs,
                                     const OpAttrs& attrs);

class GraphBuilder {
 public:
  // Builds against the run's table if one is given: the units and parameters that are added must be some or all of the
  // table's, in the same order and with the same properties. Otherwise builds with a new table that grows until Build.
  explicit GraphBuilder(std::string name, std::shared_ptr<const ParameterTable> table = nullptr);

  // Sets the type of the parameters of a new table, which is the type that ops compute in. Call before adding
  // parameters.
  void ComputeIn(DType type) { growing_->states = {ParameterState(type)}; }
  // Units added from now on that match one of these patterns (IsMeant) are not trained.
  void Freeze(std::vector<std::string> patterns) { freeze_ = std::move(patterns); }
  // Parameters of trainable units added from now on are read from that state (Graph::read_state).
  void ReadParametersFrom(StateId state) { graph_.read_state = state; }
  // For expert units, the parameters added from now on have their first dimension, experts, split over `degree` ranks:
  // ops read one part.
  void SplitExperts(int degree) { expert_degree_ = degree; }
  UnitId AddUnit(std::string name, bool is_experts = false);
  // Adds a parameter after the unit's other parameters. Returns its tensor or, if the state from which it is read has
  // another type than ops compute in, a copy in the type they compute in.
  TensorId AddParameter(UnitId unit, std::string name, Shape shape, InitialValues initial, bool weight_decay,
                        std::vector<ExportedName> exported);
  TensorId AddTensor(Tensor tensor);
  TensorId AddInput(std::string name, Shape shape, DType dtype);

  // Appends an op and creates its outputs as activations. Returns the outputs by slot.
  std::vector<TensorId> Append(OpKind kind, std::string_view name, std::vector<TensorId> inputs, OpAttrs attrs = {});
  // Appends an op that writes the given tensors, whose shapes must be those of the shape rule.
  void AppendInto(OpKind kind, std::vector<TensorId> outputs, std::vector<TensorId> inputs, OpAttrs attrs = {});

  // Ops appended from now on carry this phase and recomputation block.
  void SetPhase(Phase phase) { phase_ = phase; }
  void SetBlock(int block) { block_ = block; }

  Graph& graph() { return graph_; }
  Graph Build();
  // The same for a graph without backward and update.
  Graph BuildForward();

 private:
  Graph graph_;
  std::shared_ptr<ParameterTable> growing_;  // graph_.table, or null if that is complete
  UnitId next_unit_ = 0;                     // in a complete table: follows the last one added
  ParameterId next_parameter_ = 0;
  Phase phase_ = Phase::kForward;
  int block_ = kNone;
  std::vector<std::string> freeze_;
  int expert_degree_ = 1;
};

// Appends the backward ops of a forward graph that ends in its loss. Adds the gradient outputs of the loss op and sets
// gradient_tensors for the units to be trained. Blocks whose entry in `recompute` is true keep only their inputs from
// other blocks or, if their first op is a kAddRmsNorm, the sum that this op produces. They rerun their forward ops
// before their backward ops (Chen et al. 2016); the same kernels on the same operands give the same bits.
void AppendBackward(GraphBuilder& builder, const std::vector<bool>& recompute);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_GRAPH_BUILDER_H_
