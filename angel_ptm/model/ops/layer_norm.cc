// LayerNorm: x[T,H], weight[H]?, bias[H]?, modulation[B,W]? -> y, statistics[T,2].
// LayerNormGrad: dy, dsum?, x, statistics, weight?, bias?, modulation? -> dx?, dweight? (+)=, dbias? (+)=,
// dmodulation? (columns).
//
// The columns [column_begin, column_end) of modulation are a shift, or a shift followed by a scale (in the opposite
// order with scale_first).
#include "kernels/ops/layer_norm.h"

#include "angel_ptm/model/ops/modulation_columns.h"

namespace angel_ptm {
namespace {

// Checks the operands that both ops have, in the slots from `first` on: weight, bias, modulation.
void OperandsFit(const OpView& v, const Shape& x, int first) {
  const OpAttrs& a = v.attrs();
  v.Fits(first, {x[1]});
  v.Fits(first + 1, {x[1]});
  if (v.Has(first + 2)) ModulationFits(v, first + 2, x, a.column_end - a.column_begin == x[1] ? 1 : 2);
}

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& x = v.OfRank(0, 2);
  APTM_CHECK(v.Has(1) == v.Has(2), "LayerNorm has both weight and bias, or none");
  OperandsFit(v, x, 1);
  return {{"y", x, v.type()}, {"statistics", {x[0], 2}}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& x = v.OfRank(2, 2);
  v.Fits(0, x);
  v.Fits(1, x);
  v.Fits(3, {x[0], 2});
  OperandsFit(v, x, 4);
  const auto like = [&](int slot) { return v.Has(slot) ? v.In(slot) : Shape{}; };
  return {{"dx", x, v.type()},
          {"dweight", like(4), v.type()},
          {"dbias", like(5), v.type()},
          {"dmodulation", like(6), v.type()}};
}

// The gradient op takes the gradient of x so far and adds its own contribution.
void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], weight = op.inputs[1], bias = op.inputs[2], modulation = op.inputs[3];
  const TensorId dy = tape.GradientOf(op.outputs[0]), dsum = tape.Wanted(x) ? tape.TakeGradient(x) : kNone;
  tape.Append(OpKind::kLayerNormGrad, {x, weight, bias, modulation},
              {dy, dsum, x, op.outputs[1], weight, bias, modulation}, op.attrs);
}

// Sets the members that both kinds of arguments have; `first`: the slot of weight.
template <typename Args>
void SetSizes(const Binding& b, const Shape& x, int first, Args& args) {
  const OpAttrs& a = b.attrs();
  args.weight = b.Input(first);
  args.bias = b.Input(first + 1);
  args.modulation = b.Input(first + 2);
  args.h = x[1];
  args.b = 1;
  if (b.Has(first + 2)) {
    args.b = b.In(first + 2)[0];
    args.modulation_width = b.In(first + 2)[1];
    const bool shift_alone = a.column_end - a.column_begin == x[1];
    args.shift_at = a.column_begin + (a.scale_first && !shift_alone ? x[1] : 0);
    if (!shift_alone) args.scale_at = a.column_begin + (a.scale_first ? 0 : x[1]);
  }
  args.s = x[0] / args.b;
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  LayerNormArgs args{.y = b.Output(0), .statistics = b.Output(1), .x = b.Input(0), .epsilon = b.attrs().epsilon};
  SetSizes(b, b.In(0), 1, args);
  return MakeKernelCall(args);
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  LayerNormGradArgs args{.dx = b.Output(0),
                         .dweight = b.Output(1),
                         .dbias = b.Output(2),
                         .dmodulation = b.Output(3),
                         .dy = b.Input(0),
                         .dsum = b.Input(1),
                         .x = b.Input(2),
                         .statistics = b.Input(3),
                         .accumulate_dweight = b.attrs().accumulate_dw};
  SetSizes(b, b.In(2), 4, args);
  return MakeKernelCall(args);
}

}  // namespace

OpRules LayerNormRules() {
  return {.inputs = {{"x"},
                     {.name = "weight", .optional = true},
                     {.name = "bias", .optional = true},
                     {.name = "modulation", .optional = true}},
          .outputs = {{"y"}, {"statistics"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .bind = &Bind};
}

OpRules LayerNormGradRules() {
  return {.inputs = {{"dy"},
                     {.name = "dsum", .optional = true},
                     {"x"},
                     {"statistics"},
                     {.name = "weight", .optional = true},
                     {.name = "bias", .optional = true},
                     {.name = "modulation", .optional = true}},
          .outputs = {{.name = "dx", .optional = true},
                      {.name = "dweight", .optional = true, .accumulate = &OpAttrs::accumulate_dw},
                      {.name = "dbias", .optional = true, .accumulate = &OpAttrs::accumulate_dw},
                      {.name = "dmodulation",
                       .optional = true,
                       .columns = &ModulationColumns,
                       .keeps_columns = &OpAttrs::keep_columns}},
          .shapes = &GradShapes,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
