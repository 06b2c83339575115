// AddRmsNorm: x[T,H], delta?, weight[H] -> sum? (with delta), y, rstd[T].
// AddRmsNormGrad: dy, dsum?, sum, rstd, weight -> dx?, dweight? (+)=.
#include "kernels/ops/add_rms_norm.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& x = v.OfRank(0, 2);
  v.Fits(1, x);
  v.Fits(2, {x[1]});
  return {{v.Has(1) ? "sum" : "", x, v.type()}, {"y", x, v.type()}, {"rstd", {x[0]}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& sum = v.OfRank(2, 2);
  v.Fits(0, sum);
  v.Fits(1, sum);
  v.Fits(3, {sum[0]});
  v.Fits(4, {sum[1]});
  return {{"dx", sum, v.type()}, {"dweight", v.In(4), v.type()}};
}

// sum = x + delta; y = norm(sum). The gradient op takes the gradient of the sum so far and adds its own contribution; x
// and delta share the result.
void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], delta = op.inputs[1], weight = op.inputs[2];
  const TensorId sum = delta == kNone ? x : op.outputs[0];
  if (const TensorId dy = tape.GradientOf(op.outputs[1]); dy != kNone) {
    const TensorId dsum = tape.TakeGradient(sum);
    tape.Append(OpKind::kAddRmsNormGrad, {sum, weight}, {dy, dsum, sum, op.outputs[2], weight},
                {.epsilon = op.attrs.epsilon});
  }
  if (delta == kNone) return;
  const TensorId dsum = tape.GradientOf(sum);
  tape.Pass(dsum, x);
  tape.Pass(dsum, delta);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(AddRmsNormArgs{.sum = b.Output(0),
                                       .y = b.Output(1),
                                       .rstd = b.Output(2),
                                       .x = b.Input(0),
                                       .delta = b.Input(1),
                                       .weight = b.Input(2),
                                       .t = b.In(0)[0],
                                       .h = b.In(0)[1],
                                       .epsilon = b.attrs().epsilon});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(AddRmsNormGradArgs{.dx = b.Output(0),
                                           .dweight = b.Output(1),
                                           .dy = b.Input(0),
                                           .dsum = b.Input(1),
                                           .sum = b.Input(2),
                                           .rstd = b.Input(3),
                                           .weight = b.Input(4),
                                           .t = b.In(2)[0],
                                           .h = b.In(2)[1],
                                           .accumulate_dweight = b.attrs().accumulate_dw});
}

}  // namespace

OpRules AddRmsNormRules() {
  return {.inputs = {{"x"}, {.name = "delta", .optional = true}, {"weight"}},
          .outputs = {{.name = "sum", .optional = true}, {"y"}, {"rstd"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

OpRules AddRmsNormGradRules() {
  return {.inputs = {{"dy"}, {.name = "dsum", .optional = true}, {"sum"}, {"rstd"}, {"weight"}},
          .outputs = {{.name = "dx", .optional = true},
                      {.name = "dweight", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
