// Concat: a, b -> y.  Split: x -> a, b.  Each is the gradient of the other. Both view their operands as matrices of
// attrs.rows rows, whatever their shape (0: the rows of the first operand).
//
// Without attrs.sequence, outputs have the rows of the operands, and columns are concatenated or split. With it, all
// matrices have the same width, and rows are concatenated or split: of each of attrs.rows samples first the rows of a,
// then those of b, attrs.sequence rows in total. For Split, attrs.column_end is the width of a viewed as a matrix of
// attrs.rows rows.
#include "kernels/ops/concat.h"

#include "angel_ptm/model/op_rules.h"
#include "kernels/ops/split.h"

namespace angel_ptm {
namespace {

// Sizes of the matrices that are placed side by side.
struct Widths {
  int64_t rows, a, b;
};

Widths ConcatWidths(const OpView& v) {
  const int64_t rows = v.attrs().rows > 0 ? v.attrs().rows : v.In(0)[0];
  return {rows, v.In(0).elements() / rows, v.In(1).elements() / rows};
}

Widths SplitWidths(const OpView& v) {
  const int64_t rows = v.attrs().rows > 0 ? v.attrs().rows : v.In(0)[0], a = v.attrs().column_end;
  return {rows, a, v.In(0).elements() / rows - a};
}

std::vector<OutputSpec> ConcatShapes(const OpView& v) {
  const Shape &a = v.OfRank(0, 2), &b = v.OfRank(1, 2);
  const Widths w = ConcatWidths(v);
  v.Want(w.a > 0 && a.elements() == w.rows * w.a, 0);
  v.Want(w.b > 0 && b.elements() == w.rows * w.b, 1);
  if (v.attrs().sequence > 0) {
    v.Want(b[1] == a[1] && a[0] + b[0] == w.rows * v.attrs().sequence, 1);
    return {{"y", {a[0] + b[0], a[1]}, v.type()}};
  }
  v.Want(b[0] == a[0] && w.rows % a[0] == 0, 1);
  return {{"y", {a[0], a[1] + b[1]}, v.type()}};
}

std::vector<OutputSpec> SplitShapes(const OpView& v) {
  const Shape& x = v.OfRank(0, 2);
  const Widths w = SplitWidths(v);
  v.Want(w.a > 0 && w.b > 0 && x.elements() == w.rows * (w.a + w.b), 0);
  if (v.attrs().sequence > 0) {
    v.Want(x[0] == w.rows * v.attrs().sequence && w.a % x[1] == 0, 0);
    return {{"a", {w.rows * w.a / x[1], x[1]}, v.type()}, {"b", {w.rows * w.b / x[1], x[1]}, v.type()}};
  }
  v.Want(w.rows % x[0] == 0, 0);
  return {{"a", {x[0], w.rows / x[0] * w.a}, v.type()}, {"b", {x[0], w.rows / x[0] * w.b}, v.type()}};
}

void ConcatBackward(Tape& tape, const Op& op) {
  const TensorId a = op.inputs[0], b = op.inputs[1];
  const int64_t rows = op.attrs.rows > 0 ? op.attrs.rows : tape.ShapeOf(a)[0];
  tape.Append(OpKind::kSplit, {a, b}, {tape.GradientOf(op.outputs[0])},
              {.rows = rows, .sequence = op.attrs.sequence, .column_end = tape.ShapeOf(a).elements() / rows});
}

// The gradient of an unused part is zero.
void SplitBackward(Tape& tape, const Op& op) {
  const TensorId a = tape.GradientOrZeros(op.outputs[0]), b = tape.GradientOrZeros(op.outputs[1]);
  tape.Append(OpKind::kConcat, {op.inputs[0]}, {a, b}, {.rows = op.attrs.rows, .sequence = op.attrs.sequence});
}

std::unique_ptr<const KernelCall> BindConcat(const Binding& b) {
  const Widths w = ConcatWidths(b);
  return MakeKernelCall(
      ConcatArgs{.y = b.Output(0), .a = b.Input(0), .b = b.Input(1), .rows = w.rows, .a_width = w.a, .b_width = w.b});
}

std::unique_ptr<const KernelCall> BindSplit(const Binding& b) {
  const Widths w = SplitWidths(b);
  return MakeKernelCall(
      SplitArgs{.a = b.Output(0), .b = b.Output(1), .x = b.Input(0), .rows = w.rows, .a_width = w.a, .b_width = w.b});
}

}  // namespace

OpRules ConcatRules() {
  return {.inputs = {{"a"}, {"b"}},
          .outputs = {{"y"}},
          .shapes = &ConcatShapes,
          .backward = &ConcatBackward,
          .bind = &BindConcat};
}

OpRules SplitRules() {
  return {.inputs = {{"x"}},
          .outputs = {{.name = "a", .optional = true}, {.name = "b", .optional = true}},
          .shapes = &SplitShapes,
          .backward = &SplitBackward,
          .bind = &BindSplit};
}

}  // namespace angel_ptm
