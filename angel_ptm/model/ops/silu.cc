// Silu: x -> y.  SiluGrad: dy, x -> dx.
#include "kernels/ops/silu.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) { return {{"y", v.In(0), v.type()}}; }

std::vector<OutputSpec> GradShapes(const OpView& v) {
  v.Fits(0, v.In(1));
  return {{"dx", v.In(1), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  tape.Append(OpKind::kSiluGrad, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), op.inputs[0]});
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(SiluArgs{.y = b.Output(0), .x = b.Input(0), .n = b.In(0).elements()});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(SiluGradArgs{.dx = b.Output(0), .dy = b.Input(0), .x = b.Input(1), .n = b.In(1).elements()});
}

}  // namespace

OpRules SiluRules() {
  return {.inputs = {{"x"}}, .outputs = {{"y"}}, .shapes = &Shapes, .backward = &Backward, .bind = &Bind};
}

OpRules SiluGradRules() {
  return {.inputs = {{"dy"}, {"x"}}, .outputs = {{"dx"}}, .shapes = &GradShapes, .bind = &BindGrad};
}

}  // namespace angel_ptm
