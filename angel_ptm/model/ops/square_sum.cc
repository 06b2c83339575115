// SquareSum: (unit's gradient), (step's sum of squares). No op of a graph: a reduction does it with what it has
// reduced.
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

double Bytes(const OpView& v) { return 4.0 * static_cast<double>(v.graph.units()[v.op.unit].elements); }

}  // namespace

OpRules SquareSumRules() {
  return {.inputs = {{"gradients"}, {.name = "squares", .access = Access::kReadWrite}}, .bytes = &Bytes};
}

}  // namespace angel_ptm
