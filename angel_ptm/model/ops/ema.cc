// Ema: (unit's average, parameters). An op of the update segment, after the op that updates the parameters.
#include "kernels/ops/ema.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// Reads and writes the average, reads the parameters.
double Bytes(const OpView& v) { return 12.0 * static_cast<double>(v.graph.units()[v.op.unit].elements); }

std::unique_ptr<const KernelCall> Bind(const UpdateBinding& b) {
  return MakeKernelCall(
      EmaArgs{.ema = {b.address[0]}, .param = {b.address[1]}, .n = b.count, .scalars = &b.decision.ema});
}

}  // namespace

OpRules EmaRules() {
  return {
      .inputs = {{.name = "ema", .access = Access::kReadWrite}, {"parameters"}}, .bytes = &Bytes, .bind_update = &Bind};
}

}  // namespace angel_ptm
