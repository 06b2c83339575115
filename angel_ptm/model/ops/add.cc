// Add: x? -> y (+)=, in some or all columns.
#include "kernels/ops/add.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// y has the shape and type of x; the type need not be the compute type, because statistics and gradients are added,
// too. Without x (zeros), y keeps its own.
std::vector<OutputSpec> Shapes(const OpView& v) {
  APTM_CHECK(v.Has(0) || (!v.op.outputs.empty() && !v.attrs().accumulate), "Add of nothing");
  const TensorId like = v.Has(0) ? v.op.inputs[0] : v.op.outputs[0];
  return {{"y", v.graph.tensors[like].shape, v.graph.tensors[like].dtype}};
}

// y = x:  dx = dy.
void Backward(Tape& tape, const Op& op) {
  APTM_CHECK(!op.attrs.accumulate && op.attrs.column_end == 0, "only copies are differentiated");
  tape.Pass(tape.GradientOf(op.outputs[0]), op.inputs[0]);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  const int64_t rows = b.Out(0)[0], width = b.Out(0).elements() / rows;
  return MakeKernelCall(AddArgs{.y = b.Output(0),
                                .x = b.Input(0),
                                .rows = rows,
                                .width = width,
                                .column_begin = a.column_begin,
                                .column_end = a.column_end == 0 ? width : a.column_end,
                                .accumulate = a.accumulate});
}

}  // namespace

OpRules AddRules() {
  return {.inputs = {{.name = "x", .optional = true}},
          .outputs = {{.name = "y", .accumulate = &OpAttrs::accumulate}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

}  // namespace angel_ptm
