// NormRope: x[T,W] (columns), weight[D], bias[D]?, cos_sin[P,D/2,2]? -> y[T,N,D].
// NormRopeGrad: dy, x, weight, cos_sin? -> dx? (columns), dweight? (+)=, dbias? (+)=.
#include "kernels/ops/norm_rope.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

ColumnRange Columns(const OpAttrs& a) { return {a.column_begin, a.column_end}; }
int64_t Heads(const OpAttrs& a) { return (a.column_end - a.column_begin) / a.head_dim; }

// Checks x, the norm's weight and cos_sin, in these slots.
void OperandsFit(const OpView& v, int x, int weight, int cos_sin) {
  const OpAttrs& a = v.attrs();
  v.Want(v.OfRank(x, 2)[1] >= a.column_end && Heads(a) > 0 && Heads(a) * a.head_dim == a.column_end - a.column_begin,
         x);
  v.Fits(weight, {a.head_dim});
  if (!v.Has(cos_sin)) return;
  const Shape& table = v.OfRank(cos_sin, 3);
  v.Want(v.In(x)[0] % table[0] == 0 && table[1] == a.head_dim / 2 && table[2] == 2, cos_sin);
}

std::vector<OutputSpec> Shapes(const OpView& v) {
  OperandsFit(v, 0, 1, 3);
  v.Fits(2, v.In(1));
  return {{"y", {v.In(0)[0], Heads(v.attrs()), v.attrs().head_dim}, v.type()}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  OperandsFit(v, 1, 2, 3);
  v.Fits(0, {v.In(1)[0], Heads(v.attrs()), v.attrs().head_dim});
  return {{"dx", v.In(1), v.type()}, {"dweight", v.In(2), v.type()}, {"dbias", v.In(2), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], weight = op.inputs[1], bias = op.inputs[2];
  tape.Append(OpKind::kNormRopeGrad, {x, weight, bias}, {tape.GradientOf(op.outputs[0]), x, weight, op.inputs[3]},
              op.attrs);
}

double ColumnBytes(const OpView& v, int x) {
  return v.Bytes(static_cast<double>(v.In(x)[0]) * static_cast<double>(v.attrs().column_end - v.attrs().column_begin));
}
double Bytes(const OpView& v) { return 2 * ColumnBytes(v, 0); }
double GradBytes(const OpView& v) { return 3 * ColumnBytes(v, 1); }

template <typename Args>
void SetSizes(const Binding& b, int x, int weight, int cos_sin, Args& args) {
  const OpAttrs& a = b.attrs();
  args.weight = b.Input(weight);
  args.cos_sin = b.Input(cos_sin);
  args.t = b.In(x)[0];
  args.heads = Heads(a);
  args.d = a.head_dim;
  args.x_stride = b.In(x)[1];
  args.p = b.Has(cos_sin) ? b.In(cos_sin)[0] : 0;
  args.layer_norm = a.layer_norm;
  args.interleaved = a.interleaved;
  args.epsilon = a.epsilon;
}

// The operand from the op's first column on.
template <typename AnyOperand>
AnyOperand FromColumn(const OpAttrs& a, AnyOperand operand) {
  if (!operand) return operand;
  const auto at = reinterpret_cast<uintptr_t>(operand.data) + a.column_begin * SizeOf(operand.dtype);
  return {reinterpret_cast<decltype(operand.data)>(at), operand.dtype};
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  NormRopeArgs args{.y = b.Output(0), .x = FromColumn(b.attrs(), b.Input(0)), .bias = b.Input(2)};
  SetSizes(b, 0, 1, 3, args);
  return MakeKernelCall(args);
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  NormRopeGradArgs args{.dx = FromColumn(b.attrs(), b.Output(0)),
                        .dweight = b.Output(1),
                        .dbias = b.Output(2),
                        .dy = b.Input(0),
                        .x = FromColumn(b.attrs(), b.Input(1)),
                        .accumulate_dweight = b.attrs().accumulate_dw};
  SetSizes(b, 1, 2, 3, args);
  return MakeKernelCall(args);
}

}  // namespace

OpRules NormRopeRules() {
  return {.inputs = {{"x"}, {"weight"}, {.name = "bias", .optional = true}, {.name = "cos_sin", .optional = true}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bytes = &Bytes,
          .bind = &Bind};
}

OpRules NormRopeGradRules() {
  return {.inputs = {{"dy"}, {"x"}, {"weight"}, {.name = "cos_sin", .optional = true}},
          .outputs = {{.name = "dx", .optional = true, .columns = &Columns, .keeps_columns = &OpAttrs::keep_columns},
                      {.name = "dweight", .optional = true, .accumulate = &OpAttrs::accumulate_dw},
                      {.name = "dbias", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .bytes = &GradBytes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
