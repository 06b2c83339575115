// Attention: q, k, qkv (value columns), segment_start[T] -> o[T,Q*D], lse[Q,T].
// AttentionGrad: do, o, lse, q, k, qkv, segment_start -> dq, dk, dqkv (value columns).
#include "kernels/ops/attention.h"

#include "angel_ptm/model/ops/qkv_columns.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence;
  QueryKeyValueFit(v, 0, t);
  v.Fits(3, {t});
  return {{"o", {t, a.q_heads * a.head_dim}, v.type()}, {"lse", {a.q_heads, t}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence;
  v.Fits(0, {t, a.q_heads * a.head_dim});
  v.Fits(1, v.In(0));
  v.Fits(2, {a.q_heads, t});
  QueryKeyValueFit(v, 3, t);
  v.Fits(6, {t});
  return {{"dq", v.In(3), v.type()}, {"dk", v.In(4), v.type()}, {"dqkv", v.In(5), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId q = op.inputs[0], k = op.inputs[1], qkv = op.inputs[2];
  const TensorId d_o = tape.GradientOf(op.outputs[0]);
  tape.Append(OpKind::kAttentionGrad, {q, k, qkv}, {d_o, op.outputs[0], op.outputs[1], q, k, qkv, op.inputs[3]},
              op.attrs);
}

double Flops(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const double pairs = static_cast<double>(a.rows) * a.sequence * (a.sequence + 1) / 2;
  return 2 * 2 * pairs * a.q_heads * a.head_dim;  // q k^T and p v
}
double GradFlops(const OpView& v) { return 2.5 * Flops(v); }  // five products instead of two

// Bytes of tensors with that many heads.
double HeadBytes(const OpView& v, int64_t heads) {
  const OpAttrs& a = v.attrs();
  return v.Bytes(static_cast<double>(a.rows * a.sequence) * static_cast<double>(heads * a.head_dim));
}
double Bytes(const OpView& v) { return HeadBytes(v, 2 * (v.attrs().q_heads + v.attrs().kv_heads)); }
double GradBytes(const OpView& v) { return 2 * Bytes(v); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(AttentionArgs{.o = b.Output(0),
                                      .lse = b.Output(1),
                                      .q = b.Input(0),
                                      .k = b.Input(1),
                                      .v = Values(a, b.Input(2)),
                                      .v_stride = QkvWidth(a),
                                      .segment_start = b.InputInts(3),
                                      .b = a.rows,
                                      .s = a.sequence,
                                      .q_heads = a.q_heads,
                                      .kv_heads = a.kv_heads,
                                      .d = a.head_dim,
                                      .scale = AttentionScale(a)});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(AttentionGradArgs{.dq = b.Output(0),
                                          .dk = b.Output(1),
                                          .dv = Values(a, b.Output(2)),
                                          .do_ = b.Input(0),
                                          .o = b.Input(1),
                                          .lse = b.Input(2),
                                          .q = b.Input(3),
                                          .k = b.Input(4),
                                          .v = Values(a, b.Input(5)),
                                          .v_stride = QkvWidth(a),
                                          .dv_stride = QkvWidth(a),
                                          .segment_start = b.InputInts(6),
                                          .b = a.rows,
                                          .s = a.sequence,
                                          .q_heads = a.q_heads,
                                          .kv_heads = a.kv_heads,
                                          .d = a.head_dim,
                                          .scale = AttentionScale(a)});
}

}  // namespace

OpRules AttentionRules() {
  return {.inputs = {{"q"}, {"k"}, {"qkv"}, {"segment_start"}},
          .outputs = {{"o"}, {"lse"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules AttentionGradRules() {
  return {.inputs = {{"do"}, {"o"}, {"lse"}, {"q"}, {"k"}, {"qkv"}, {"segment_start"}},
          .outputs = {{"dq"}, {"dk"}, {.name = "dqkv", .columns = &ValueColumns}},
          .shapes = &GradShapes,
          .flops = &GradFlops,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
