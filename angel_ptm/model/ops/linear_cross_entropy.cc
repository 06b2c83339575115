// LinearCrossEntropy: x[T,H], weight[V,H], targets[T] -> token_loss[T], dx?, dweight? (+)=. As the graph's loss, the op
// writes its own gradients.
#include "kernels/ops/linear_cross_entropy.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &x = v.OfRank(0, 2), &weight = v.OfRank(1, 2);
  v.Want(weight[1] == x[1], 1);
  v.Fits(2, {x[0]});
  return {{"token_loss", {x[0]}}, {"", x, v.type()}, {"", weight, v.type()}};
}

void Backward(Tape& tape, const Op& op) { tape.AttachToLoss({kNone, op.inputs[0], op.inputs[1]}); }

double Flops(const OpView& v) {
  const int gradients = (v.op.outputs[1] != kNone ? 1 : 0) + (v.op.outputs[2] != kNone ? 1 : 0);
  return (2 + 2 * gradients) * static_cast<double>(v.In(0).elements()) * static_cast<double>(v.In(1)[0]);
}

// Each chunk reads the weight and, for the weight's gradient, reads and writes that gradient. The chunk's logits are
// written, read and rewritten, and read by each gradient product.
double Bytes(const OpView& v) {
  const int64_t t = v.In(0)[0], chunk = v.attrs().chunk_tokens;
  const double chunks = static_cast<double>((t + chunk - 1) / chunk), weight = static_cast<double>(v.In(1).elements());
  const double x = static_cast<double>(v.In(0).elements()), logits = static_cast<double>(t * v.In(1)[0]);
  double bytes = v.Bytes(chunks * weight + x) + 4 * 2 * logits;
  if (v.op.outputs[1] != kNone) bytes += v.Bytes(chunks * weight + x + 2 * logits);
  if (v.op.outputs[2] != kNone) bytes += v.Bytes(2 * chunks * weight + x + logits);
  return bytes;
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(LinearCrossEntropyArgs{.token_loss = b.Output(0),
                                               .dx = b.Output(1),
                                               .dweight = b.Output(2),
                                               .x = b.Input(0),
                                               .weight = b.Input(1),
                                               .targets = b.InputInts(2),
                                               .t = b.In(0)[0],
                                               .h = b.In(0)[1],
                                               .v = b.In(1)[0],
                                               .chunk_tokens = b.attrs().chunk_tokens,
                                               .accumulate_dweight = b.attrs().accumulate_dw});
}

}  // namespace

OpRules LinearCrossEntropyRules() {
  return {.inputs = {{"x"}, {"weight"}, {"targets"}},
          .outputs = {{"token_loss"},
                      {.name = "dx", .optional = true},
                      {.name = "dweight", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bytes = &Bytes,
          .bind = &Bind};
}

}  // namespace angel_ptm
