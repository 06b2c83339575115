// GatedAdd: x[T,H]?, delta[T,H], modulation[B,W] (columns) -> y.
// GatedAddGrad: dy, delta, modulation -> ddelta?, dmodulation? (columns).
#include "kernels/ops/gated_add.h"

#include "angel_ptm/model/ops/modulation_columns.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& delta = v.OfRank(1, 2);
  v.Fits(0, delta);
  ModulationFits(v, 2, delta, 1);
  return {{"y", delta, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& delta = v.OfRank(1, 2);
  v.Fits(0, delta);
  ModulationFits(v, 2, delta, 1);
  return {{"ddelta", delta, v.type()}, {"dmodulation", v.In(2), v.type()}};
}

// dx = dy.
void Backward(Tape& tape, const Op& op) {
  const TensorId delta = op.inputs[1], modulation = op.inputs[2], dy = tape.GradientOf(op.outputs[0]);
  tape.Append(OpKind::kGatedAddGrad, {delta, modulation}, {dy, delta, modulation}, op.attrs);
  if (op.inputs[0] != kNone) tape.Pass(dy, op.inputs[0]);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(GatedAddArgs{.y = b.Output(0),
                                     .x = b.Input(0),
                                     .delta = b.Input(1),
                                     .modulation = b.Input(2),
                                     .b = b.In(2)[0],
                                     .s = b.In(1)[0] / b.In(2)[0],
                                     .h = b.In(1)[1],
                                     .modulation_width = b.In(2)[1],
                                     .gate_at = b.attrs().column_begin});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(GatedAddGradArgs{.ddelta = b.Output(0),
                                         .dmodulation = b.Output(1),
                                         .dy = b.Input(0),
                                         .delta = b.Input(1),
                                         .modulation = b.Input(2),
                                         .b = b.In(2)[0],
                                         .s = b.In(1)[0] / b.In(2)[0],
                                         .h = b.In(1)[1],
                                         .modulation_width = b.In(2)[1],
                                         .gate_at = b.attrs().column_begin});
}

}  // namespace

OpRules GatedAddRules() {
  return {.inputs = {{.name = "x", .optional = true}, {"delta"}, {"modulation"}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

OpRules GatedAddGradRules() {
  return {.inputs = {{"dy"}, {"delta"}, {"modulation"}},
          .outputs = {{.name = "ddelta", .optional = true},
                      {.name = "dmodulation",
                       .optional = true,
                       .columns = &ModulationColumns,
                       .keeps_columns = &OpAttrs::keep_columns}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
