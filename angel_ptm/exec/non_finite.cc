#include "angel_ptm/exec/non_finite.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

bool AllFinite(const float* values, int64_t n) {
  // A sum of zeros unless some value is infinite or NaN; vectorises, unlike an early exit.
  float poison[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) poison[l] += values[i + l] * 0.0f;
  }
  for (; i < n; ++i) poison[0] += values[i] * 0.0f;
  for (float p : poison) {
    if (p != 0.0f) return false;
  }
  return true;
}

bool AllFinite(const BFloat16* values, int64_t n) {
  return std::none_of(values, values + n, [](BFloat16 v) { return (v.bits & 0x7f80) == 0x7f80; });
}

// Elements [begin, begin + n) of the tensor; integers are finite.
bool IsFinite(const Tensor& tensor, const void* data, int64_t begin, int64_t n) {
  if (tensor.dtype == DType::kFloat32) return AllFinite(static_cast<const float*>(data) + begin, n);
  return tensor.dtype != DType::kBFloat16 || AllFinite(static_cast<const BFloat16*>(data) + begin, n);
}
bool IsFinite(const Tensor& tensor, const void* data) { return IsFinite(tensor, data, 0, tensor.shape.elements()); }

// Looks at the rows and columns of an output to which its op gave values.
bool OutputIsFinite(const Graph& graph, const Op& op, size_t output, const std::vector<const void*>& operands) {
  const Tensor& tensor = graph.tensors[op.outputs[output]];
  const OutputSlot& slot = RulesOf(op.kind).outputs[output];
  const void* const data = operands[op.inputs.size() + output];
  const bool blocks = slot.active_blocks != kNone && op.inputs[slot.active_blocks] != kNone;
  if (!blocks && slot.columns == nullptr) return IsFinite(tensor, data);
  int64_t rows = tensor.shape[0];
  const int64_t width = tensor.shape.elements() / rows;
  if (blocks) {
    int32_t active_blocks = 0;
    std::memcpy(&active_blocks, operands[slot.active_blocks], sizeof(active_blocks));
    rows = active_blocks * op.attrs.block_rows;
  }
  const ColumnRange columns = slot.columns == nullptr ? ColumnRange{0, width} : slot.columns(op.attrs);
  for (int64_t row = 0; row < rows; ++row) {
    if (!IsFinite(tensor, data, row * width + columns.begin, columns.end - columns.begin)) return false;
  }
  return true;
}

TensorId NonFiniteParameter(const Graph& graph, const Op& op, const std::vector<const void*>& operands) {
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i] == kNone) continue;
    const Tensor& tensor = graph.tensors[op.inputs[i]];
    if (tensor.tensor_class == TensorClass::kParameter && !IsFinite(tensor, operands[i])) return op.inputs[i];
  }
  return kNone;
}

}  // namespace

TensorId NonFiniteTensor(const Graph& graph, const Op& op, const std::vector<const void*>& operands) {
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    if (op.outputs[i] == kNone || OutputIsFinite(graph, op, i, operands)) continue;
    const TensorId parameter = NonFiniteParameter(graph, op, operands);
    return parameter != kNone ? parameter : op.outputs[i];
  }
  return kNone;
}

std::string Describe(const Graph& graph, const NonFinite& found) {
  const Op& op = graph.ops[found.op];
  const Tensor& tensor = graph.tensors[found.tensor];
  const bool read = tensor.tensor_class == TensorClass::kParameter;
  return absl::StrCat(read ? "parameter " : "", tensor.name, read ? ", read by " : ", written by ", Name(op.phase), " ",
                      Name(op.kind));
}

}  // namespace angel_ptm
