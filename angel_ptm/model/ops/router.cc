// Router: x[T,H], gate[E,H] -> weights[T,K], experts[T,K], probs[T,E], counts[E], loads[E]? +=.
// RouterGrad: dweights, weights, experts, probs, x, gate, counts, target_count[1] -> dx? (+)=, dgate? (+)=.
#include "kernels/ops/router.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& x = v.OfRank(0, 2);
  const int64_t t = x[0], e = v.OfRank(1, 2)[0], k = v.attrs().topk;
  v.Fits(1, {e, x[1]});
  return {{"weights", {t, k}},
          {"experts", {t, k}, DType::kInt32},
          {"probs", {t, e}},
          {"counts", {e}, DType::kInt32},
          {v.attrs().sums_loads ? "loads" : "", {e}, DType::kInt32}};
}

std::vector<OutputSpec> GradShapes(const OpView& v) {
  const Shape& x = v.OfRank(4, 2);
  const int64_t t = x[0], e = v.OfRank(5, 2)[0];
  for (int slot = 0; slot < 3; ++slot) v.Fits(slot, {t, v.attrs().topk});
  v.Fits(3, {t, e});
  v.Fits(5, {e, x[1]});
  v.Fits(6, {e});
  v.Fits(7, {1});
  return {{"dx", x, v.type()}, {"dgate", v.In(5), v.type()}};
}

void Backward(Tape& tape, const Op& op) {
  const TensorId x = op.inputs[0], gate = op.inputs[1];
  const TensorId weights = op.outputs[0], experts = op.outputs[1], probs = op.outputs[2], counts = op.outputs[3];
  tape.Append(OpKind::kRouterGrad, {x, gate},
              {tape.GradientOf(weights), weights, experts, probs, x, gate, counts, tape.LossWeight()}, op.attrs);
}

double Flops(const OpView& v) { return 2 * static_cast<double>(v.In(0).elements()) * v.attrs().experts; }
double GradFlops(const OpView& v) { return 4 * static_cast<double>(v.In(4).elements()) * v.attrs().experts; }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(RouterArgs{.weights = b.Output(0),
                                   .probs = b.Output(2),
                                   .experts = b.OutputInts(1),
                                   .counts = b.OutputInts(3),
                                   .loads = b.OutputInts(4),
                                   .x = b.Input(0),
                                   .gate = b.Input(1),
                                   .t = b.In(0)[0],
                                   .h = b.In(0)[1],
                                   .e = b.attrs().experts,
                                   .k = b.attrs().topk});
}

std::unique_ptr<const KernelCall> BindGrad(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(RouterGradArgs{.dx = b.Output(0),
                                       .dgate = b.Output(1),
                                       .dweights = b.Input(0),
                                       .weights = b.Input(1),
                                       .probs = b.Input(3),
                                       .x = b.Input(4),
                                       .gate = b.Input(5),
                                       .experts = b.InputInts(2),
                                       .counts = b.InputInts(6),
                                       .target_count = b.Input(7).as<float>(),
                                       .aux_coefficient = a.aux_coefficient,
                                       .t = b.In(4)[0],
                                       .h = b.In(4)[1],
                                       .e = a.experts,
                                       .k = a.topk,
                                       .accumulate_dx = a.accumulate,
                                       .accumulate_dgate = a.accumulate_dw});
}

}  // namespace

OpRules RouterRules() {
  return {.inputs = {{"x"}, {"gate"}},
          .outputs = {{"weights"},
                      {"experts"},
                      {"probs"},
                      {"counts"},
                      {.name = "loads", .optional = true, .access = Access::kReadWrite}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bind = &Bind};
}

OpRules RouterGradRules() {
  return {.inputs = {{"dweights"}, {"weights"}, {"experts"}, {"probs"}, {"x"}, {"gate"}, {"counts"}, {"target_count"}},
          .outputs = {{.name = "dx", .optional = true, .accumulate = &OpAttrs::accumulate},
                      {.name = "dgate", .optional = true, .accumulate = &OpAttrs::accumulate_dw}},
          .shapes = &GradShapes,
          .flops = &GradFlops,
          .bind = &BindGrad};
}

}  // namespace angel_ptm
