// Gelu: x -> y.  GeluGrad: dy, x -> dx.  With OpAttrs::erf both use the exact function.
#include "kernels/ops/gelu.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) { return {{"y", v.In(0), v.type()}}; }

std::vector<OutputSpec> GradShapes(const OpView& v) {
  v.Fits(0, v.In(1));
  return {{"dx", v.In(1), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  tape.Append(OpKind::kGeluGrad, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), op.inputs[0]}, op.attrs);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(GeluArgs{.y = b.Output(0), .x = b.Input(0), .n = b.In(0).elements(), .erf = b.attrs().erf});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(GeluGradArgs{
      .dx = b.Output(0), .dy = b.Input(0), .x = b.Input(1), .n = b.In(1).elements(), .erf = b.attrs().erf});
}

}  // namespace

OpRules GeluRules() {
  return {.inputs = {{"x"}}, .outputs = {{"y"}}, .shapes = &Shapes, .backward = &Backward, .bind = &Bind};
}

OpRules GeluGradRules() {
  return {.inputs = {{"dy"}, {"x"}}, .outputs = {{"dx"}}, .shapes = &GradShapes, .bind = &BindGrad};
}

}  // namespace angel_ptm
