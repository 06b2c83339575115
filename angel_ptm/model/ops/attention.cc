// Attention: q[T,Q,D], k[K,G,D] (the last two dimensions may be one), v[K,W] (columns), seen -> o[T,Q*D], lse[Q,T].
// AttentionGrad: do, o, lse, q, k, v, seen -> dq, dk, dv (value columns).
// Causal attention's `seen` is segment_start[T]. With OpAttrs::key_sequence attention is full, and `seen` is absent or
// key_counts[rows].
#include "kernels/ops/attention.h"

#include "angel_ptm/model/ops/qkv_columns.h"

namespace angel_ptm {
namespace {

int64_t KeyTokens(const OpAttrs& a) { return a.rows * (a.key_sequence > 0 ? a.key_sequence : a.sequence); }

// Heads side by side: [tokens, heads, width] or [tokens, heads * width].
void HeadsFit(const OpView& v, int slot, int64_t tokens, int64_t heads) {
  const int64_t d = v.attrs().head_dim;
  v.Want(v.In(slot) == Shape{tokens, heads, d} || v.In(slot) == Shape{tokens, heads * d}, slot);
}

// Checks q, k, v, in the slots from `first` on, and `seen`.
void OperandsFit(const OpView& v, int first, int seen) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence;
  APTM_CHECK(a.key_sequence > 0 || v.Has(seen), "causal attention without segment_start");
  HeadsFit(v, first, t, a.q_heads);
  HeadsFit(v, first + 1, KeyTokens(a), a.kv_heads);
  const ColumnRange values = ValueColumns(a);
  v.Want(v.OfRank(first + 2, 2)[0] == KeyTokens(a) && v.In(first + 2)[1] >= values.end &&
             values.end - values.begin == a.kv_heads * a.head_dim,
         first + 2);
  v.Fits(seen, {a.key_sequence > 0 ? a.rows : t});
}

std::vector<OutputSpec> Shapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence;
  OperandsFit(v, 0, 3);
  return {{"o", {t, a.q_heads * a.head_dim}, v.type()}, {"lse", {a.q_heads, t}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence;
  v.Fits(0, {t, a.q_heads * a.head_dim});
  v.Fits(1, v.In(0));
  v.Fits(2, {a.q_heads, t});
  OperandsFit(v, 3, 6);
  return {{"dq", v.In(3), v.type()}, {"dk", v.In(4), v.type()}, {"dv", v.In(5), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId q = op.inputs[0], k = op.inputs[1], v = op.inputs[2];
  const TensorId d_o = tape.GradientOf(op.outputs[0]);
  tape.Append(OpKind::kAttentionGrad, {q, k, v}, {d_o, op.outputs[0], op.outputs[1], q, k, v, op.inputs[3]}, op.attrs);
}

double Flops(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const double rows = static_cast<double>(a.rows) * a.sequence;
  const double pairs = a.key_sequence > 0 ? rows * a.key_sequence : rows * (a.sequence + 1) / 2;
  return 2 * 2 * pairs * a.q_heads * a.head_dim;  // q k^T and p v
}
double GradFlops(const OpView& v) { return 2.5 * Flops(v); }  // five products instead of two

// Bytes of q and o, k and v.
double Bytes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const double elements = static_cast<double>(a.rows * a.sequence * a.q_heads + KeyTokens(a) * a.kv_heads);
  return v.Bytes(2 * elements * static_cast<double>(a.head_dim));
}
double GradBytes(const OpView& v) { return 2 * Bytes(v); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(AttentionArgs{.o = b.Output(0),
                                      .lse = b.Output(1),
                                      .q = b.Input(0),
                                      .k = b.Input(1),
                                      .v = Values(a, b.Input(2)),
                                      .v_stride = b.In(2)[1],
                                      .segment_start = a.key_sequence > 0 ? nullptr : b.InputInts(3),
                                      .key_counts = a.key_sequence > 0 ? b.InputInts(3) : nullptr,
                                      .keys = a.key_sequence,
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
                                          .v_stride = b.In(5)[1],
                                          .dv_stride = b.In(5)[1],
                                          .segment_start = a.key_sequence > 0 ? nullptr : b.InputInts(6),
                                          .key_counts = a.key_sequence > 0 ? b.InputInts(6) : nullptr,
                                          .keys = a.key_sequence,
                                          .b = a.rows,
                                          .s = a.sequence,
                                          .q_heads = a.q_heads,
                                          .kv_heads = a.kv_heads,
                                          .d = a.head_dim,
                                          .scale = AttentionScale(a)});
}

}  // namespace

OpRules AttentionRules() {
  return {.inputs = {{"q"}, {"k"}, {"v"}, {.name = "seen", .optional = true}},
          .outputs = {{"o"}, {"lse"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules AttentionGradRules() {
  return {.inputs = {{"do"}, {"o"}, {"lse"}, {"q"}, {"k"}, {"v"}, {.name = "seen", .optional = true}},
          .outputs = {{"dq"}, {"dk"}, {.name = "dv", .columns = &ValueColumns}},
          .shapes = &GradShapes,
          .flops = &GradFlops,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
