#include "angel_ptm/model/graph_builder.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

GraphBuilder::GraphBuilder(std::string name, std::shared_ptr<const ParameterTable> table) {
  graph_.name = std::move(name);
  if (table == nullptr) table = growing_ = std::make_shared<ParameterTable>();
  graph_.table = std::move(table);
}

Graph GraphBuilder::Build() {
  growing_ = nullptr;
  graph_.parameter_tensors.resize(graph_.parameters().size(), kNone);
  graph_.gradient_tensors.resize(graph_.parameters().size(), kNone);
  return std::move(graph_);
}

Graph GraphBuilder::BuildForward() {
  Graph graph = Build();
  graph.update_begin = static_cast<OpId>(graph.ops.size());
  return graph;
}

UnitId GraphBuilder::AddUnit(std::string name, bool is_experts) {
  Unit unit{.name = std::move(name), .is_experts = is_experts};
  const auto freezes = [&](const std::string& pattern) { return IsMeant(unit, pattern); };
  unit.trainable = std::none_of(freeze_.begin(), freeze_.end(), freezes);
  if (growing_ != nullptr) return growing_->AddUnit(std::move(unit));
  const UnitId match = graph_.table->MatchUnit(unit, next_unit_);
  next_unit_ = match + 1;
  return match;
}

TensorId GraphBuilder::AddTensor(Tensor tensor) {
  graph_.tensors.push_back(std::move(tensor));
  return static_cast<TensorId>(graph_.tensors.size()) - 1;
}

TensorId GraphBuilder::AddInput(std::string name, Shape shape, DType dtype) {
  return AddTensor(
      {.name = std::move(name), .shape = std::move(shape), .dtype = dtype, .tensor_class = TensorClass::kInput});
}

TensorId GraphBuilder::AddParameter(UnitId unit, std::string name, Shape shape, InitialValues initial,
                                    bool weight_decay, std::vector<ExportedName> exported) {
  Parameter added{.name = std::move(name),
                  .shape = std::move(shape),
                  .unit = unit,
                  .weight_decay = weight_decay,
                  .initial = initial,
                  .exported = std::move(exported)};
  const ParameterId p = growing_ != nullptr ? growing_->AddParameter(std::move(added))
                                            : graph_.table->MatchParameter(std::move(added), next_parameter_);
  next_parameter_ = p + 1;
  const Parameter& parameter = graph_.parameters()[p];
  graph_.parameter_tensors.resize(graph_.parameters().size(), kNone);
  graph_.gradient_tensors.resize(graph_.parameters().size(), kNone);
  const int parts = graph_.units()[unit].is_experts ? expert_degree_ : 1;
  APTM_CHECK(parts == 1 || parameter.shape[0] % parts == 0, parameter.name, " in ", parts, " parts");
  graph_.parameter_tensors[p] =
      AddTensor({.name = parameter.name,
                 .shape = parts == 1 ? parameter.shape : parameter.shape.WithRows(parameter.shape[0] / parts),
                 .dtype = graph_.states()[graph_.ReadState(unit)].dtype,
                 .tensor_class = TensorClass::kParameter,
                 .unit = unit,
                 .unit_offset = parameter.unit_offset});
  const TensorId read = graph_.parameter_tensors[p];
  if (graph_.tensors[read].dtype == graph_.table->compute_type()) return read;
  return Append(OpKind::kCast, parameter.name, {read})[0];
}

namespace {

std::vector<OutputSpec> OutputsOf(const Graph& graph, const Op& op) {
  const OpRules& rules = RulesOf(op.kind);
  APTM_CHECK(rules.shapes != nullptr, Name(op.kind), " is no op on tensors");
  APTM_CHECK(op.inputs.size() == rules.inputs.size(), Name(op.kind), " has ", rules.inputs.size(), " inputs, got ",
             op.inputs.size());
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    APTM_CHECK(op.inputs[i] != kNone || rules.inputs[i].optional, Name(op.kind), " input ", i, " (",
               std::string(rules.inputs[i].name), ") is missing");
  }
  return rules.shapes({graph, op});
}

}  // namespace

std::vector<OutputSpec> InferOutputs(const Graph& graph, OpKind kind, const std::vector<TensorId>& inputs,
                                     const OpAttrs& attrs) {
  return OutputsOf(graph, {.kind = kind, .attrs = attrs, .inputs = inputs});
}

std::vector<TensorId> GraphBuilder::Append(OpKind kind, std::string_view name, std::vector<TensorId> inputs,
                                           OpAttrs attrs) {
  std::vector<TensorId> outputs;
  for (OutputSpec& spec : InferOutputs(graph_, kind, inputs, attrs)) {
    if (spec.suffix.empty()) {
      outputs.push_back(kNone);
      continue;
    }
    outputs.push_back(AddTensor({.name = absl::StrCat(std::string(name), ".", spec.suffix.data()),
                                 .shape = std::move(spec.shape),
                                 .dtype = spec.dtype}));
  }
  graph_.ops.push_back({kind, phase_, block_, kNone, attrs, std::move(inputs), outputs});
  return outputs;
}

void GraphBuilder::AppendInto(OpKind kind, std::vector<TensorId> outputs, std::vector<TensorId> inputs, OpAttrs attrs) {
  Op op{kind, phase_, block_, kNone, attrs, std::move(inputs), std::move(outputs)};
  const std::vector<OutputSpec> specs = OutputsOf(graph_, op);
  APTM_CHECK(specs.size() == op.outputs.size(), Name(kind), " has ", specs.size(), " outputs, got ", op.outputs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    if (op.outputs[i] == kNone) {
      APTM_CHECK(RulesOf(kind).outputs[i].optional, Name(kind), " output ", i, " is missing");
      continue;
    }
    const Tensor& given = graph_.tensors[op.outputs[i]];
    const auto slot = op.outputs.begin() + static_cast<int64_t>(i);
    APTM_CHECK(
        std::find(op.outputs.begin(), slot, *slot) == slot && std::ranges::find(op.inputs, *slot) == op.inputs.end(),
        Name(kind), " has ", given.name, " in two slots, one of them an output");
    APTM_CHECK(given.shape == specs[i].shape && given.dtype == specs[i].dtype, Name(kind), " output ", i, " is ",
               given.shape.ToString(), ", its shape rule wants ", specs[i].shape.ToString());
  }
  graph_.ops.push_back(std::move(op));
}

}  // namespace angel_ptm
