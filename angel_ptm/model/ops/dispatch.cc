// Dispatch: x[T,H], pair_of_row, active_blocks -> rows[R,H].  DispatchGrad: drows, row_of_pair -> dx (+)=.
#include "kernels/ops/dispatch.h"

#include "angel_ptm/model/ops/expert_rows.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  v.Fits(2, {1});
  return {{"rows", {v.OfRank(1, 1)[0], v.OfRank(0, 2)[1]}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  return {{"dx", {v.OfRank(1, 2)[0], v.OfRank(0, 2)[1]}, v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId row_of_pair = tape.ProducerOf(op.inputs[1], OpKind::kExpertLayout).outputs[0];
  tape.Append(OpKind::kDispatchGrad, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), row_of_pair}, op.attrs);
}

double RowsBytes(const OpView& v, const Shape& rows) {
  return v.Bytes(TokenRows(v.attrs(), rows[0]) * static_cast<double>(rows[1]));
}
double Bytes(const OpView& v) { return 2 * RowsBytes(v, v.Out(0)); }
double GradBytes(const OpView& v) {
  return RowsBytes(v, v.In(0)) + v.Bytes((v.attrs().accumulate ? 2.0 : 1.0) * static_cast<double>(v.Out(0).elements()));
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(DispatchArgs{.rows = b.Output(0),
                                     .x = b.Input(0),
                                     .pair_of_row = b.InputInts(1),
                                     .active_blocks = b.InputInts(2),
                                     .t = b.In(0)[0],
                                     .h = b.In(0)[1],
                                     .k = b.attrs().topk,
                                     .block_rows = b.attrs().block_rows,
                                     .blocks_max = b.Out(0)[0] / b.attrs().block_rows});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(DispatchGradArgs{.dx = b.Output(0),
                                         .drows = b.Input(0),
                                         .row_of_pair = b.InputInts(1),
                                         .t = b.Out(0)[0],
                                         .h = b.Out(0)[1],
                                         .k = b.attrs().topk,
                                         .accumulate = b.attrs().accumulate});
}

}  // namespace

OpRules DispatchRules() {
  return {.inputs = {{"x"}, {"pair_of_row"}, {"active_blocks"}},
          .outputs = {{.name = "rows", .active_blocks = 2}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules DispatchGradRules() {
  return {.inputs = {{"drows"}, {"row_of_pair"}},
          .outputs = {{.name = "dx", .accumulate = &OpAttrs::accumulate}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
