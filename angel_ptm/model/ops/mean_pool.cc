// MeanPool: x[rows*sequence,H], counts[rows]? -> y[rows,H].  MeanPoolGrad: dy, counts? -> dx.
#include "kernels/ops/mean_pool.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& x = v.OfRank(0, 2);
  v.Want(x[0] == v.attrs().rows * v.attrs().sequence, 0);
  v.Fits(1, {v.attrs().rows});
  return {{"y", {v.attrs().rows, x[1]}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& dy = v.OfRank(0, 2);
  v.Want(dy[0] == v.attrs().rows, 0);
  v.Fits(1, {v.attrs().rows});
  return {{"dx", {v.attrs().rows * v.attrs().sequence, dy[1]}, v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  tape.Append(OpKind::kMeanPoolGrad, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), op.inputs[1]}, op.attrs);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(MeanPoolArgs{.y = b.Output(0),
                                     .x = b.Input(0),
                                     .counts = b.InputInts(1),
                                     .b = b.attrs().rows,
                                     .s = b.attrs().sequence,
                                     .h = b.In(0)[1]});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(MeanPoolGradArgs{.dx = b.Output(0),
                                         .dy = b.Input(0),
                                         .counts = b.InputInts(1),
                                         .b = b.attrs().rows,
                                         .s = b.attrs().sequence,
                                         .h = b.In(0)[1]});
}

}  // namespace

OpRules MeanPoolRules() {
  return {.inputs = {{"x"}, {.name = "counts", .optional = true}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

OpRules MeanPoolGradRules() {
  return {.inputs = {{"dy"}, {.name = "counts", .optional = true}},
          .outputs = {{"dx"}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
