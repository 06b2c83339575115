// AdamW: (unit's parameters, moments, gradient, master copy?). An op of the update segment. If there is a master copy,
// it is updated, and the parameters are overwritten with its rounded values, also in a skipped step.
#include "angel_ptm/model/op_rules.h"
#include "kernels/ops/cast.h"

namespace angel_ptm {
namespace {

constexpr size_t kGradient = 3, kMaster = 4;  // slots

// Reads and writes three fp32 states, reads the gradient and, with a master copy, writes the parameters.
double Bytes(const OpView& v) {
  const double elements = static_cast<double>(v.graph.units()[v.op.unit].elements);
  const DType gradient = v.graph.states()[v.op.states[kGradient]].dtype;
  return (24 + static_cast<double>(SizeOf(gradient))) * elements +
         (v.op.states.size() > kMaster ? v.Bytes(elements) : 0);
}

std::unique_ptr<const KernelCall> Bind(const UpdateBinding& b) {
  const bool has_master = b.address.size() > kMaster;
  return MakeKernelCall(AdamWArgs{.param = {b.address[0], b.type},
                                  .master = {has_master ? b.address[kMaster] : nullptr},
                                  .m = {b.address[1]},
                                  .v = {b.address[2]},
                                  .grad = {b.address[kGradient], b.gradient_type},
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

std::unique_ptr<const KernelCall> BindSkipped(const UpdateBinding& b) {
  if (b.address.size() <= kMaster) return nullptr;
  return MakeKernelCall(CastArgs{.y = {b.address[0], b.type}, .x = {b.address[kMaster]}, .n = b.count});
}

}  // namespace

OpRules AdamWRules() {
  return {.inputs = {{.name = "parameters", .access = Access::kReadWrite, .overwritten_with = kMaster},
                     {.name = "moment1", .access = Access::kReadWrite},
                     {.name = "moment2", .access = Access::kReadWrite},
                     {"gradients"},
                     {.name = "master", .optional = true, .access = Access::kReadWrite}},
          .bytes = &Bytes,
          .bind_update = &Bind,
          .bind_skipped = &BindSkipped};
}

}  // namespace angel_ptm
