// Embedding: table[V,H], tokens[T] -> y[T,H].  EmbeddingGrad: dy, tokens -> dtable (+)=.
#include "kernels/ops/embedding.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &table = v.OfRank(0, 2), &tokens = v.OfRank(1, 1);
  return {{"y", {tokens[0], table[1]}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& dy = v.OfRank(0, 2);
  v.Fits(1, {dy[0]});
  return {{"dtable", {v.attrs().rows, dy[1]}, v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId table = op.inputs[0];
  tape.Append(OpKind::kEmbeddingGrad, {table}, {tape.GradientOf(op.outputs[0]), op.inputs[1]},
              {.rows = tape.ShapeOf(table)[0]});
}

// Reads and writes one row per token.
double Bytes(const OpView& v) { return 2 * v.Bytes(static_cast<double>(v.Out(0).elements())); }

// Clears the table unless it adds, then adds a row per token.
double GradBytes(const OpView& v) {
  const double table = v.attrs().accumulate_dw ? 0 : v.Bytes(static_cast<double>(v.Out(0).elements()));
  const double rows = static_cast<double>(v.In(0).elements());
  return table + v.Bytes(3 * rows);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(EmbeddingArgs{.y = b.Output(0),
                                      .table = b.Input(0),
                                      .tokens = b.InputInts(1),
                                      .t = b.In(1)[0],
                                      .h = b.In(0)[1],
                                      .v = b.In(0)[0]});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(EmbeddingGradArgs{.dtable = b.Output(0),
                                          .dy = b.Input(0),
                                          .tokens = b.InputInts(1),
                                          .t = b.In(0)[0],
                                          .h = b.In(0)[1],
                                          .v = b.Out(0)[0],
                                          .accumulate = b.attrs().accumulate_dw});
}

}  // namespace

OpRules EmbeddingRules() {
  return {.inputs = {{"table"}, {"tokens"}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules EmbeddingGradRules() {
  return {.inputs = {{"dy"}, {"tokens"}},
          .outputs = {{.name = "dtable", .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
