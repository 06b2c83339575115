// Swiglu: gate_up[R,2F], active_blocks? -> y[R,F].  SwigluGrad: dy, gate_up, active_blocks? -> dgate_up.
#include "kernels/ops/swiglu.h"

#include "angel_ptm/model/ops/expert_rows.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& gate_up = v.OfRank(0, 2);
  v.Want(gate_up[1] % 2 == 0, 0);
  v.Fits(1, {1});
  return {{"y", {gate_up[0], gate_up[1] / 2}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& dy = v.OfRank(0, 2);
  v.Fits(1, {dy[0], 2 * dy[1]});
  v.Fits(2, {1});
  return {{"dgate_up", v.In(1), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  tape.Append(OpKind::kSwigluGrad, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), op.inputs[0], op.inputs[1]},
              op.attrs);
}

double RowBytes(const OpView& v, const Shape& y, bool blocks) {
  const double rows = blocks ? TokenRows(v.attrs(), y[0]) : static_cast<double>(y[0]);
  return v.Bytes(rows * static_cast<double>(y[1]));
}
double Bytes(const OpView& v) { return 3 * RowBytes(v, v.Out(0), v.Has(1)); }
double GradBytes(const OpView& v) { return 5 * RowBytes(v, v.In(0), v.Has(2)); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(SwigluArgs{.y = b.Output(0),
                                   .gate_up = b.Input(0),
                                   .rows = b.In(0)[0],
                                   .f = b.Out(0)[1],
                                   .block_rows = b.attrs().block_rows,
                                   .active_blocks = b.InputInts(1)});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(SwigluGradArgs{.dgate_up = b.Output(0),
                                       .dy = b.Input(0),
                                       .gate_up = b.Input(1),
                                       .rows = b.In(1)[0],
                                       .f = b.In(0)[1],
                                       .block_rows = b.attrs().block_rows,
                                       .active_blocks = b.InputInts(2)});
}

}  // namespace

OpRules SwigluRules() {
  return {.inputs = {{"gate_up"}, {.name = "active_blocks", .optional = true}},
          .outputs = {{.name = "y", .active_blocks = 1}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules SwigluGradRules() {
  return {.inputs = {{"dy"}, {"gate_up"}, {.name = "active_blocks", .optional = true}},
          .outputs = {{.name = "dgate_up", .active_blocks = 2}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
