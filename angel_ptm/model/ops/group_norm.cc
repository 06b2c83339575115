// GroupNorm: x[T,C], weight[C], bias[C] -> y, statistics[B*groups,2].
// GroupNormGrad: dy, x, statistics, weight, bias -> dx?, dweight? (+)=, dbias? (+)=. T is B = attrs().rows samples.
#include "kernels/ops/group_norm.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// Checks x, in slot `x`, and weight and bias, in the slots from `weight` on.
void OperandsFit(const OpView& v, int x, int weight) {
  const OpAttrs& a = v.attrs();
  const Shape& shape = v.OfRank(x, 2);
  v.Want(a.rows > 0 && a.groups > 0 && shape[0] % a.rows == 0 && shape[1] % a.groups == 0, x);
  v.Fits(weight, {shape[1]});
  v.Fits(weight + 1, {shape[1]});
}

std::vector<OutputSpec> Shapes(const OpView& v) {
  OperandsFit(v, 0, 1);
  return {{"y", v.In(0), v.type()}, {"statistics", {v.attrs().rows * v.attrs().groups, 2}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  OperandsFit(v, 1, 3);
  v.Fits(0, v.In(1));
  v.Fits(2, {v.attrs().rows * v.attrs().groups, 2});
  return {{"dx", v.In(1), v.type()}, {"dweight", v.In(3), v.type()}, {"dbias", v.In(4), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], weight = op.inputs[1], bias = op.inputs[2];
  tape.Append(OpKind::kGroupNormGrad, {x, weight, bias},
              {tape.GradientOf(op.outputs[0]), x, op.outputs[1], weight, bias}, op.attrs);
}

template <typename Args>
Args WithSizes(const OpView& v, const Shape& x, Args args) {
  args.b = v.attrs().rows;
  args.s = x[0] / args.b;
  args.c = x[1];
  args.groups = v.attrs().groups;
  args.silu = v.attrs().silu;
  return args;
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(WithSizes(b, b.In(0),
                                  GroupNormArgs{.y = b.Output(0),
                                                .statistics = b.Output(1),
                                                .x = b.Input(0),
                                                .weight = b.Input(1),
                                                .bias = b.Input(2),
                                                .epsilon = b.attrs().epsilon}));
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(WithSizes(b, b.In(1),
                                  GroupNormGradArgs{.dx = b.Output(0),
                                                    .dweight = b.Output(1),
                                                    .dbias = b.Output(2),
                                                    .dy = b.Input(0),
                                                    .x = b.Input(1),
                                                    .statistics = b.Input(2),
                                                    .weight = b.Input(3),
                                                    .bias = b.Input(4),
                                                    .accumulate_dweight = b.attrs().accumulate_dw}));
}

}  // namespace

OpRules GroupNormRules() {
  return {.inputs = {{"x"}, {"weight"}, {"bias"}},
          .outputs = {{"y"}, {"statistics"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

OpRules GroupNormGradRules() {
  return {.inputs = {{"dy"}, {"x"}, {"statistics"}, {"weight"}, {"bias"}},
          .outputs = {{.name = "dx", .optional = true},
                      {.name = "dweight", .optional = true, .accumulate = &OpAttrs::accumulate_dw},
                      {.name = "dbias", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
