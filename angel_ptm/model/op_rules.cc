#include "angel_ptm/model/op_rules.h"

#include <array>

namespace angel_ptm {

#define APTM_OP(Kind, name) OpRules Kind##Rules();
#define APTM_EXCHANGE APTM_OP
#include "kernels/ops.def"

const OpRules& RulesOf(OpKind kind) {
  static const std::array<OpRules, kOpKindCount> rules = {
#define APTM_OP(Kind, name) Kind##Rules(),
#define APTM_EXCHANGE APTM_OP
#include "kernels/ops.def"
  };
  return rules[static_cast<int>(kind)];
}

Access AccessOf(const Op& op, int slot) {
  const OpRules& rules = RulesOf(op.kind);
  const int inputs = static_cast<int>(rules.inputs.size());
  APTM_CHECK(slot >= 0 && slot < inputs + static_cast<int>(rules.outputs.size()), Name(op.kind), " has no slot ", slot);
  if (slot < inputs) {
    const InputSlot& input = rules.inputs[slot];
    const bool overwritten =
        input.overwritten_with != kNone && static_cast<int>(op.states.size()) > input.overwritten_with;
    return overwritten ? Access::kWrite : input.access;
  }
  const OutputSlot& output = rules.outputs[slot - inputs];
  if (output.keeps_columns != nullptr && op.attrs.*output.keeps_columns) return Access::kReadWrite;
  return output.accumulate != nullptr && op.attrs.*output.accumulate ? Access::kReadWrite : output.access;
}

std::unique_ptr<const KernelCall> BindKernel(const Graph& graph, const Op& op, const std::vector<void*>& address) {
  const OpRules& rules = RulesOf(op.kind);
  APTM_CHECK(rules.bind != nullptr, Name(op.kind), " is not a micro-step op");
  APTM_CHECK(address.size() >= op.inputs.size() + op.outputs.size());
  return rules.bind({{graph, op}, address});
}

}  // namespace angel_ptm
