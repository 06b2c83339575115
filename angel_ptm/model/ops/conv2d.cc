// Conv2d: x[P,in], weight[out,in,k,k], bias[out]? -> y[Q,out].  Conv2dGradInput: dy, weight -> dx.
// Conv2dGradWeight: dy, x -> dweight (+)=. P and Q are the pixels of B images; the attributes give height and width of
// the input image.
#include "kernels/ops/conv2d.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// All but the number of images.
ConvShape ShapeOf(const OpAttrs& a, int64_t in, int64_t out) {
  return {.height = a.height,
          .width = a.width,
          .in = in,
          .out = out,
          .kernel = a.kernel,
          .stride = a.stride,
          .pad_before = a.pad_before,
          .pad_after = a.pad_after,
          .upsample = a.upsample};
}

// Sets the number of images from the operand in `slot`, which must consist of whole images.
void SetImages(const OpView& v, int slot, int64_t pixels_per_image, ConvShape& z) {
  APTM_CHECK(z.kernel > 0 && z.stride > 0 && z.upsample > 0 && z.out_height() > 0 && z.out_width() > 0);
  v.Want(v.In(slot)[0] % pixels_per_image == 0, slot);
  z.b = v.In(slot)[0] / pixels_per_image;
}

ConvShape ForwardShape(const OpView& v) {
  const Shape &x = v.OfRank(0, 2), &weight = v.OfRank(1, 4);
  ConvShape z = ShapeOf(v.attrs(), x[1], weight[0]);
  v.Fits(1, {z.out, z.in, z.kernel, z.kernel});
  v.Fits(2, {z.out});
  SetImages(v, 0, z.height * z.width, z);
  return z;
}

ConvShape GradInputShape(const OpView& v) {
  const Shape &dy = v.OfRank(0, 2), &weight = v.OfRank(1, 4);
  ConvShape z = ShapeOf(v.attrs(), weight[1], weight[0]);
  v.Want(dy[1] == z.out, 0);
  v.Fits(1, {z.out, z.in, z.kernel, z.kernel});
  SetImages(v, 0, z.out_height() * z.out_width(), z);
  return z;
}

ConvShape GradWeightShape(const OpView& v) {
  const Shape &dy = v.OfRank(0, 2), &x = v.OfRank(1, 2);
  ConvShape z = ShapeOf(v.attrs(), x[1], dy[1]);
  SetImages(v, 1, z.height * z.width, z);
  v.Want(dy[0] == z.out_pixels(), 0);
  return z;
}

std::vector<OutputSpec> Shapes(const OpView& v) {
  const ConvShape z = ForwardShape(v);
  return {{"y", {z.out_pixels(), z.out}, v.type()}};
}

std::vector<OutputSpec> GradInputShapes(const OpView& v) {
  const ConvShape z = GradInputShape(v);
  return {{"dx", {z.in_pixels(), z.in}, v.type()}};
}

std::vector<OutputSpec> GradWeightShapes(const OpView& v) {
  const ConvShape z = GradWeightShape(v);
  return {{"dweight", {z.out, z.in, z.kernel, z.kernel}, v.type()}};
}

// The bias is a row added to all pixels.
void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], weight = op.inputs[1], bias = op.inputs[2];
  const TensorId dy = tape.GradientOf(op.outputs[0]);
  tape.Append(OpKind::kConv2dGradWeight, {weight}, {dy, x}, op.attrs);
  if (bias != kNone) tape.Append(OpKind::kAddRowsGrad, {bias}, {dy});
  tape.Append(OpKind::kConv2dGradInput, {x}, {dy, weight}, op.attrs);
}

double FlopsOf(const ConvShape& z) {
  return 2.0 * static_cast<double>(z.out_pixels()) * static_cast<double>(z.out * z.in * z.taps());
}
double Flops(const OpView& v) { return FlopsOf(ForwardShape(v)); }
double GradInputFlops(const OpView& v) { return FlopsOf(GradInputShape(v)); }
double GradWeightFlops(const OpView& v) { return FlopsOf(GradWeightShape(v)); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(Conv2dArgs{
      .y = b.Output(0), .x = b.Input(0), .weight = b.Input(1), .bias = b.Input(2), .shape = ForwardShape(b)});
}

std::unique_ptr<const KernelCall> BindGradInput(const Binding& b) {
  return MakeKernelCall(
      Conv2dGradInputArgs{.dx = b.Output(0), .dy = b.Input(0), .weight = b.Input(1), .shape = GradInputShape(b)});
}

std::unique_ptr<const KernelCall> BindGradWeight(const Binding& b) {
  return MakeKernelCall(Conv2dGradWeightArgs{.dweight = b.Output(0),
                                             .dy = b.Input(0),
                                             .x = b.Input(1),
                                             .shape = GradWeightShape(b),
                                             .accumulate = b.attrs().accumulate_dw});
}

}  // namespace

OpRules Conv2dRules() {
  return {.inputs = {{"x"}, {"weight"}, {.name = "bias", .optional = true}},
          .outputs = {{"y"}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bind = &Bind};
}

OpRules Conv2dGradInputRules() {
  return {.inputs = {{"dy"}, {"weight"}},
          .outputs = {{"dx"}},
          .shapes = &GradInputShapes,
          .flops = &GradInputFlops,
          .bind = &BindGradInput};
}

OpRules Conv2dGradWeightRules() {
  return {.inputs = {{"dy"}, {"x"}},
          .outputs = {{.name = "dweight", .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradWeightShapes,
          .flops = &GradWeightFlops,
          .bind = &BindGradWeight};
}

}  // namespace angel_ptm
