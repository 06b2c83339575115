// QkRopeNorm: qkv[T,(Q+2G)D], cos_sin, q_weight[D], k_weight[D] -> q[T,Q,D], k[T,G,D], q_rstd[T,Q], k_rstd[T,G].
// QkRopeNormGrad: dq, dk, qkv, q_rstd, k_rstd, cos_sin, q_weight, k_weight -> dqkv (query and key columns),
// dq_weight? (+)=, dk_weight? (+)=.
#include "kernels/ops/qk_rope_norm.h"

#include "angel_ptm/model/ops/qkv_columns.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = v.In(0)[0];
  v.Fits(0, {t, QkvWidth(a)});
  v.Fits(1, {t, a.head_dim / 2, 2});
  v.Fits(2, {a.head_dim});
  v.Fits(3, {a.head_dim});
  return {{"q", {t, a.q_heads, a.head_dim}, v.type()},
          {"k", {t, a.kv_heads, a.head_dim}, v.type()},
          {"q_rstd", {t, a.q_heads}},
          {"k_rstd", {t, a.kv_heads}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = v.In(2)[0];
  QueryKeyValueFit(v, 0, t);
  v.Fits(3, {t, a.q_heads});
  v.Fits(4, {t, a.kv_heads});
  v.Fits(5, {t, a.head_dim / 2, 2});
  v.Fits(6, {a.head_dim});
  v.Fits(7, {a.head_dim});
  return {{"dqkv", v.In(2), v.type()}, {"dq_weight", v.In(6), v.type()}, {"dk_weight", v.In(7), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId qkv = op.inputs[0], q_weight = op.inputs[2], k_weight = op.inputs[3];
  const TensorId dq = tape.GradientOrZeros(op.outputs[0]), dk = tape.GradientOrZeros(op.outputs[1]);
  tape.Append(OpKind::kQkRopeNormGrad, {qkv, q_weight, k_weight},
              {dq, dk, qkv, op.outputs[2], op.outputs[3], op.inputs[1], q_weight, k_weight}, op.attrs);
}

double QueryKeyBytes(const OpView& v, int slot) {
  return v.Bytes(static_cast<double>(v.In(slot)[0]) * static_cast<double>(QueryKeyColumns(v.attrs()).end));
}
double Bytes(const OpView& v) { return 2 * QueryKeyBytes(v, 0); }
double GradBytes(const OpView& v) { return 3 * QueryKeyBytes(v, 2); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(QkRopeNormArgs{.q = b.Output(0),
                                       .k = b.Output(1),
                                       .q_rstd = b.Output(2),
                                       .k_rstd = b.Output(3),
                                       .qkv = b.Input(0),
                                       .cos_sin = b.Input(1),
                                       .q_weight = b.Input(2),
                                       .k_weight = b.Input(3),
                                       .t = b.In(0)[0],
                                       .q_heads = b.attrs().q_heads,
                                       .kv_heads = b.attrs().kv_heads,
                                       .d = b.attrs().head_dim,
                                       .epsilon = b.attrs().epsilon});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  return MakeKernelCall(QkRopeNormGradArgs{.dqkv = b.Output(0),
                                           .dq_weight = b.Output(1),
                                           .dk_weight = b.Output(2),
                                           .dq = b.Input(0),
                                           .dk = b.Input(1),
                                           .qkv = b.Input(2),
                                           .q_rstd = b.Input(3),
                                           .k_rstd = b.Input(4),
                                           .cos_sin = b.Input(5),
                                           .q_weight = b.Input(6),
                                           .k_weight = b.Input(7),
                                           .t = b.In(2)[0],
                                           .q_heads = b.attrs().q_heads,
                                           .kv_heads = b.attrs().kv_heads,
                                           .d = b.attrs().head_dim,
                                           .accumulate_dweight = b.attrs().accumulate_dw});
}

}  // namespace

OpRules QkRopeNormRules() {
  return {.inputs = {{"qkv"}, {"cos_sin"}, {"q_weight"}, {"k_weight"}},
          .outputs = {{"q"}, {"k"}, {"q_rstd"}, {"k_rstd"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules QkRopeNormGradRules() {
  return {.inputs = {{"dq"}, {"dk"}, {"qkv"}, {"q_rstd"}, {"k_rstd"}, {"cos_sin"}, {"q_weight"}, {"k_weight"}},
          .outputs = {{.name = "dqkv", .columns = &QueryKeyColumns, .access = Access::kReadWrite},
                      {.name = "dq_weight", .optional = true, .accumulate = &OpAttrs::accumulate_dw},
                      {.name = "dk_weight", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
