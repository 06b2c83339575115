// Products of the experts' rows with their own weights.
// GroupedMatmul: a[R,K], b[E,...], block_expert, active_blocks -> c[R,N].
// GroupedMatmulGradWeight: dy[R,N], x[R,K], block_expert, active_blocks -> dw[E,N,K] (+)=.
#include "kernels/ops/grouped_matmul.h"

#include "angel_ptm/model/ops/expert_rows.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &a = v.OfRank(0, 2), &b = v.OfRank(1, 3);
  const bool trans = v.attrs().trans_b;
  v.Want((trans ? b[2] : b[1]) == a[1], 1);
  v.OfRank(2, 1);
  v.Fits(3, {1});
  return {{"c", {a[0], trans ? b[1] : b[2]}, v.type()}};
}

std::vector<OutputSpec> GradWeightShapes(const OpView& v) {
  const Shape &dy = v.OfRank(0, 2), &x = v.OfRank(1, 2);
  v.Want(x[0] == dy[0], 1);
  v.OfRank(2, 1);
  v.Fits(3, {1});
  return {{"dw", {v.attrs().experts, dy[1], x[1]}, v.type()}};
}

// Like Matmul's, expert by expert.
void Backward(Tape& tape, const Op& op) {
  APTM_CHECK(op.attrs.trans_b, "only x W^T is differentiated");
  const TensorId x = op.inputs[0], weight = op.inputs[1], dc = tape.GradientOf(op.outputs[0]);
  const TensorId block_expert = op.inputs[2], active_blocks = op.inputs[3];
  OpAttrs attrs{.experts = op.attrs.experts, .block_rows = op.attrs.block_rows};
  if (op.attrs.experts_of_all != 0) {  // used for the cost only; if unset, the digest stays unchanged
    attrs.experts_of_all = op.attrs.experts_of_all;
    attrs.topk = op.attrs.topk;
  }
  tape.Append(OpKind::kGroupedMatmul, {x}, {dc, weight, block_expert, active_blocks}, attrs);
  tape.Append(OpKind::kGroupedMatmulGradWeight, {weight}, {dc, x, block_expert, active_blocks}, attrs);
}

double ProductFlops(const OpView& v, int64_t n) {
  const Shape& a = v.In(0);
  return 2 * TokenRows(v.attrs(), a[0]) * static_cast<double>(a[1]) * static_cast<double>(n);
}
double Flops(const OpView& v) { return ProductFlops(v, v.Out(0)[1]); }
double GradWeightFlops(const OpView& v) { return ProductFlops(v, v.In(1)[1]); }

// Bytes of the rows on both sides; callers add the experts' weights.
double RowsBytes(const OpView& v, int64_t n) {
  const Shape& a = v.In(0);
  return v.Bytes(TokenRows(v.attrs(), a[0]) * static_cast<double>(a[1] + n));
}
double Bytes(const OpView& v) { return RowsBytes(v, v.Out(0)[1]) + v.Bytes(static_cast<double>(v.In(1).elements())); }
double GradWeightBytes(const OpView& v) {
  const double weights = static_cast<double>(v.Out(0).elements());
  return RowsBytes(v, v.In(1)[1]) + v.Bytes(v.attrs().accumulate_dw ? 2 * weights : weights);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(GroupedMatmulArgs{.c = b.Output(0),
                                          .a = b.Input(0),
                                          .b = b.Input(1),
                                          .block_expert = b.InputInts(2),
                                          .active_blocks = b.InputInts(3),
                                          .n = b.Out(0)[1],
                                          .k = b.In(0)[1],
                                          .e = a.experts,
                                          .block_rows = a.block_rows,
                                          .blocks_max = b.In(0)[0] / a.block_rows,
                                          .trans_b = a.trans_b});
}

std::unique_ptr<const KernelCall> BindGradWeight(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(GroupedMatmulGradWeightArgs{.dw = b.Output(0),
                                                    .dy = b.Input(0),
                                                    .x = b.Input(1),
                                                    .block_expert = b.InputInts(2),
                                                    .active_blocks = b.InputInts(3),
                                                    .n = b.In(0)[1],
                                                    .k = b.In(1)[1],
                                                    .e = a.experts,
                                                    .block_rows = a.block_rows,
                                                    .blocks_max = b.In(0)[0] / a.block_rows,
                                                    .accumulate = a.accumulate_dw});
}

}  // namespace

OpRules GroupedMatmulRules() {
  return {.inputs = {{"a"}, {"b"}, {"block_expert"}, {"active_blocks"}},
          .outputs = {{.name = "c", .active_blocks = 3}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules GroupedMatmulGradWeightRules() {
  return {.inputs = {{"dy"}, {"x"}, {"block_expert"}, {"active_blocks"}},
          .outputs = {{.name = "dw", .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradWeightShapes,
          .flops = &GradWeightFlops,
          .bytes = &GradWeightBytes,
          .bind = &BindGradWeight};
}

}  // namespace angel_ptm
