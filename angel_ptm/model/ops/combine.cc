// Combine: base[T,H]?, rows[R,H], weights[T,K], row_of_pair -> y[T,H].
// CombineGrad: dy, rows, weights, pair_of_row, active_blocks -> drows, dweights.
#include "kernels/ops/combine.h"

#include "angel_ptm/model/ops/expert_rows.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &rows = v.OfRank(1, 2), &weights = v.OfRank(2, 2);
  if (v.Has(0)) {
    const Shape& base = v.OfRank(0, 2);
    v.Want(rows[1] == base[1], 1);
    v.Want(weights[0] == base[0], 2);
  }
  v.Fits(3, weights);
  return {{"y", {weights[0], rows[1]}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape &dy = v.OfRank(0, 2), &rows = v.OfRank(1, 2), &weights = v.OfRank(2, 2);
  v.Want(rows[1] == dy[1], 1);
  v.Want(weights[0] == dy[0], 2);
  v.Fits(3, {rows[0]});
  v.Fits(4, {1});
  return {{"drows", rows, v.type()}, {"dweights", weights}};
}

// The gradient of base, if present, is that of y.
void Backward(Tape& tape, const Op& op) {
  const TensorId base = op.inputs[0], rows = op.inputs[1], weights = op.inputs[2];
  const TensorId dy = tape.GradientOf(op.outputs[0]);
  const Op layout = tape.ProducerOf(op.inputs[3], OpKind::kExpertLayout);
  if (base != kNone) tape.Pass(dy, base);
  tape.Append(OpKind::kCombineGrad, {rows, weights}, {dy, rows, weights, layout.outputs[1], layout.outputs[3]},
              op.attrs);
}

// Rows, for the pairs that have one, base and y.
double Bytes(const OpView& v) {
  const Shape& y = v.Out(0);
  const double rows = PairShare(v.attrs()) * static_cast<double>(v.In(2).elements());
  return v.Bytes((v.Has(0) ? 2.0 : 1.0) * static_cast<double>(y.elements()) + rows * static_cast<double>(y[1]));
}
// For every row that holds a token: reads dy and the row, writes the row's gradient.
double GradBytes(const OpView& v) {
  return v.Bytes(3 * TokenRows(v.attrs(), v.In(1)[0]) * static_cast<double>(v.In(1)[1]));
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(CombineArgs{.y = b.Output(0),
                                    .base = b.Input(0),
                                    .rows = b.Input(1),
                                    .weights = b.Input(2),
                                    .row_of_pair = b.InputInts(3),
                                    .t = b.Out(0)[0],
                                    .h = b.Out(0)[1],
                                    .k = b.attrs().topk});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(CombineGradArgs{.drows = b.Output(0),
                                        .dweights = b.Output(1),
                                        .dy = b.Input(0),
                                        .rows = b.Input(1),
                                        .weights = b.Input(2),
                                        .pair_of_row = b.InputInts(3),
                                        .active_blocks = b.InputInts(4),
                                        .t = b.In(0)[0],
                                        .h = b.In(0)[1],
                                        .k = b.attrs().topk,
                                        .block_rows = b.attrs().block_rows,
                                        .blocks_max = b.In(1)[0] / b.attrs().block_rows});
}

}  // namespace

OpRules CombineRules() {
  return {.inputs = {{.name = "base", .optional = true}, {"rows"}, {"weights"}, {"row_of_pair"}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules CombineGradRules() {
  return {.inputs = {{"dy"}, {"rows"}, {"weights"}, {"pair_of_row"}, {"active_blocks"}},
          .outputs = {{.name = "drows", .active_blocks = 4}, {"dweights"}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
