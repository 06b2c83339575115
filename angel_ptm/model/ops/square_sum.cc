// SquareSum: (unit's gradient), (step's sum of squares). Never an op of a graph: a reduction applies it to the gradient
// that it has reduced.
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

double Bytes(const OpView& v) { return 4.0 * static_cast<double>(v.graph.units()[v.op.unit].elements); }

}  // namespace

OpRules SquareSumRules() {
  return {.inputs = {{"gradients"}, {.name = "squares", .access = Access::kReadWrite}}, .bytes = &Bytes};
}

}  // namespace angel_ptm
