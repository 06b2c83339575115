// HybridLoss: x, target fp32, clean fp32, weight[B] fp32, bound[B,kBoundColumns] fp32 -> sample_loss[2B], dx? like x. x
// is viewed as a matrix of attrs.rows rows, whatever its shape (0: its own rows); target and clean have half its
// columns. As the graph's loss, the op writes its own gradient.
#include "kernels/ops/hybrid_loss.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

int64_t RowsOf(const OpView& v) { return v.attrs().rows > 0 ? v.attrs().rows : v.In(0)[0]; }

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &x = v.OfRank(0, 2), &weight = v.OfRank(3, 1);
  const int64_t rows = RowsOf(v);
  v.Want(x.elements() % (2 * rows) == 0 && rows % x[0] == 0, 0);
  v.Fits(1, {x[0], x[1] / 2});
  v.Fits(2, {x[0], x[1] / 2});
  v.Want(weight[0] > 0 && rows % weight[0] == 0, 3);
  v.Fits(4, {weight[0], kBoundColumns});
  return {{"sample_loss", {2 * weight[0]}}, {"", x, v.type()}};
}

void Backward(Tape& tape, const Op& op) { tape.AttachToLoss({kNone, op.inputs[0]}); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const int64_t rows = RowsOf(b), samples = b.In(3)[0];
  return MakeKernelCall(HybridLossArgs{.sample_loss = b.Output(0),
                                       .dx = b.Output(1),
                                       .x = b.Input(0),
                                       .target = b.Input(1),
                                       .clean = b.Input(2),
                                       .weight = b.Input(3),
                                       .bound = b.Input(4),
                                       .b = samples,
                                       .r = rows / samples,
                                       .c = b.In(0).elements() / (2 * rows)});
}

}  // namespace

OpRules HybridLossRules() {
  return {.inputs = {{"x"}, {"target"}, {"clean"}, {"weight"}, {"bound"}},
          .outputs = {{"sample_loss"}, {.name = "dx", .optional = true}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind,
          .loss_parts = 2};
}

}  // namespace angel_ptm
