// AddRows: x[T,H], rows[P,H] or [H] -> y.  AddRowsGrad: dy -> drows (+)=. P divides T; [H] is P = 1.
#include "kernels/ops/add_rows.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

int64_t RowsOf(const Shape& shape) { return shape.rank() == 1 ? 1 : shape[0]; }

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &x = v.OfRank(0, 2), &rows = v.In(1);
  v.Want((rows.rank() == 1 || rows.rank() == 2) && rows[rows.rank() - 1] == x[1] && x[0] % RowsOf(rows) == 0, 1);
  return {{"y", x, v.type()}};
}

// attrs().rows == 0: the gradient of a vector.
std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& dy = v.OfRank(0, 2);
  const int64_t p = v.attrs().rows;
  return {{"drows", p == 0 ? Shape{dy[1]} : Shape{p, dy[1]}, v.type()}};
}

// dx = dy, and for a plain sum also drows = dy.
void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], rows = op.inputs[1], dy = tape.GradientOf(op.outputs[0]);
  const Shape& shape = tape.ShapeOf(rows);
  if (shape == tape.ShapeOf(x)) {
    tape.Pass(dy, rows);
  } else {
    tape.Append(OpKind::kAddRowsGrad, {rows}, {dy}, {.rows = shape.rank() == 1 ? 0 : shape[0]});
  }
  tape.Pass(dy, x);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(AddRowsArgs{
      .y = b.Output(0), .x = b.Input(0), .rows = b.Input(1), .t = b.In(0)[0], .h = b.In(0)[1], .p = RowsOf(b.In(1))});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(AddRowsGradArgs{.drows = b.Output(0),
                                        .dy = b.Input(0),
                                        .t = b.In(0)[0],
                                        .h = b.In(0)[1],
                                        .p = RowsOf(b.Out(0)),
                                        .accumulate = b.attrs().accumulate_dw});
}

}  // namespace

OpRules AddRowsRules() {
  return {.inputs = {{"x"}, {"rows"}}, .outputs = {{"y"}}, .shapes = &Shapes, .backward = &Backward, .bind = &Bind};
}

OpRules AddRowsGradRules() {
  return {.inputs = {{"dy"}},
          .outputs = {{.name = "drows", .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
