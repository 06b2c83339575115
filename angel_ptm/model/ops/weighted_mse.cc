// WeightedMse: x[T,C], target[T,C] fp32, weight[B] fp32 -> sample_loss[B], dx?. As the graph's loss, the op writes its
// own gradient.
#include "kernels/ops/weighted_mse.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &x = v.OfRank(0, 2), &weight = v.OfRank(2, 1);
  v.Fits(1, x);
  v.Want(weight[0] > 0 && x[0] % weight[0] == 0, 2);
  return {{"sample_loss", {weight[0]}}, {"", x, v.type()}};
}

void Backward(Tape& tape, const Op& op) { tape.AttachToLoss({kNone, op.inputs[0]}); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(WeightedMseArgs{.sample_loss = b.Output(0),
                                        .dx = b.Output(1),
                                        .x = b.Input(0),
                                        .target = b.Input(1),
                                        .weight = b.Input(2),
                                        .b = b.In(2)[0],
                                        .n = b.In(0).elements() / b.In(2)[0]});
}

}  // namespace

OpRules WeightedMseRules() {
  return {.inputs = {{"x"}, {"target"}, {"weight"}},
          .outputs = {{"sample_loss"}, {.name = "dx", .optional = true}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

}  // namespace angel_ptm
