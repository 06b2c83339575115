#include "angel_ptm/model/graph_builder.h"

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

UnitId GraphBuilder::AddUnit(std::string name) {
  graph_.units.push_back({.name = std::move(name)});
  return static_cast<UnitId>(graph_.units.size()) - 1;
}

TensorId GraphBuilder::AddTensor(Tensor tensor) {
  graph_.tensors.push_back(std::move(tensor));
  return static_cast<TensorId>(graph_.tensors.size()) - 1;
}

TensorId GraphBuilder::AddInput(std::string name, Shape shape, DType dtype) {
  return AddTensor(
      {.name = std::move(name), .shape = std::move(shape), .dtype = dtype, .tensor_class = TensorClass::kInput});
}

TensorId GraphBuilder::AddParameter(UnitId unit_id, std::string name, Shape shape, float init_stddev, bool weight_decay,
                                    std::vector<ExportedName> exported) {
  Unit& unit = graph_.units[unit_id];
  const int64_t offset = (unit.elements + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
  unit.elements = offset + shape.elements();
  const TensorId tensor = AddTensor({.name = std::move(name),
                                     .shape = std::move(shape),
                                     .tensor_class = TensorClass::kParameter,
                                     .unit = unit_id,
                                     .unit_offset = offset});
  unit.parameters.push_back(static_cast<int32_t>(graph_.parameters.size()));
  graph_.parameters.push_back(
      {.tensor = tensor, .weight_decay = weight_decay, .init_stddev = init_stddev, .exported = std::move(exported)});
  return tensor;
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
  const std::vector<OutputSpec> specs = InferOutputs(graph_, kind, inputs, attrs);
  APTM_CHECK(specs.size() == outputs.size(), Name(kind), " has ", specs.size(), " outputs, got ", outputs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    if (outputs[i] == kNone) continue;
    const Tensor& given = graph_.tensors[outputs[i]];
    APTM_CHECK(given.shape == specs[i].shape && given.dtype == specs[i].dtype, Name(kind), " output ", i, " is ",
               given.shape.ToString(), ", its shape rule wants ", specs[i].shape.ToString());
  }
  graph_.ops.push_back({kind, phase_, block_, kNone, attrs, std::move(inputs), std::move(outputs)});
}

}  // namespace angel_ptm
