// Cast: x -> y in the graph's compute type. Used for inputs, and for parameters that are read from a state of another
// type.
#include "kernels/ops/cast.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) { return {{"y", v.In(0), v.type()}}; }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(CastArgs{.y = b.Output(0), .x = b.Input(0), .n = b.In(0).elements()});
}

}  // namespace

OpRules CastRules() { return {.inputs = {{"x"}}, .outputs = {{"y"}}, .shapes = &Shapes, .bind = &Bind}; }

}  // namespace angel_ptm
