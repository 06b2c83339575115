// AdamW: (unit's parameters, moments, gradient). An op of the update segment.
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// Three states read and written, the gradient read.
double Bytes(const OpView& v) { return 28.0 * static_cast<double>(v.graph.units()[v.op.unit].elements); }

std::unique_ptr<const KernelCall> Bind(const UpdateBinding& b) {
  return MakeKernelCall(AdamWArgs{.param = {b.address[0]},
                                  .m = {b.address[1]},
                                  .v = {b.address[2]},
                                  .grad = {b.address[3]},
                                  .n = b.count,
                                  .unit_offset = b.begin,
                                  .no_decay = b.no_decay.data(),
                                  .no_decay_count = static_cast<int64_t>(b.no_decay.size()),
                                  .scalars = &b.decision.scalars,
                                  .beta1 = b.adamw.beta1,
                                  .beta2 = b.adamw.beta2,
                                  .epsilon = b.adamw.epsilon,
                                  .weight_decay = b.adamw.weight_decay});
}

}  // namespace

OpRules AdamWRules() {
  return {.inputs = {{.name = "parameters", .access = Access::kReadWrite},
                     {.name = "moment1", .access = Access::kReadWrite},
                     {.name = "moment2", .access = Access::kReadWrite},
                     {"gradients"}},
          .bytes = &Bytes,
          .bind_update = &Bind};
}

}  // namespace angel_ptm
