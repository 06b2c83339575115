// Matmul: a, b -> c (+)=.
#include "kernels/ops/matmul.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape &a = v.OfRank(0, 2), &b = v.OfRank(1, 2);
  const int64_t m = v.attrs().trans_a ? a[1] : a[0], k = v.attrs().trans_a ? a[0] : a[1];
  const int64_t n = v.attrs().trans_b ? b[0] : b[1];
  v.Want((v.attrs().trans_b ? b[1] : b[0]) == k, 1);
  return {{"c", {m, n}, v.attrs().fp32_result ? DType::kFloat32 : v.type()}};
}

// c = x W^T:  dx = dc W,  dW = dc^T x.
void Backward(Tape& tape, const Op& op) {
  APTM_CHECK(!op.attrs.trans_a && op.attrs.trans_b, "only x W^T is differentiated");
  const TensorId x = op.inputs[0], weight = op.inputs[1], dc = tape.GradientOf(op.outputs[0]);
  tape.Append(OpKind::kMatmul, {x}, {dc, weight});
  tape.Append(OpKind::kMatmul, {weight}, {dc, x}, {.trans_a = true});
}

double Flops(const OpView& v) {
  return 2.0 * static_cast<double>(v.Out(0).elements()) * static_cast<double>(v.In(0)[v.attrs().trans_a ? 0 : 1]);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(MatmulArgs{.c = b.Output(0),
                                   .a = b.Input(0),
                                   .b = b.Input(1),
                                   .m = b.Out(0)[0],
                                   .n = b.Out(0)[1],
                                   .k = b.In(0)[a.trans_a ? 0 : 1],
                                   .trans_a = a.trans_a,
                                   .trans_b = a.trans_b,
                                   .accumulate = a.accumulate});
}

}  // namespace

OpRules MatmulRules() {
  return {.inputs = {{"a"}, {"b"}},
          .outputs = {{.name = "c", .accumulate = &OpAttrs::accumulate}},
          .shapes = &Shapes,
          .backward = &Backward,
          .flops = &Flops,
          .bind = &Bind};
}

}  // namespace angel_ptm
