// RelativeAttention: qkv[T,3*Q*D], table[P,Q], places[2S-1], key_counts[rows] -> o[T,Q*D]. Forward only.
#include "kernels/ops/relative_attention.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const int64_t t = a.rows * a.sequence, width = a.q_heads * a.head_dim;
  v.Fits(0, {t, 3 * width});
  v.Want(v.OfRank(1, 2)[1] == a.q_heads, 1);
  v.Fits(2, {2 * a.sequence - 1});
  v.Fits(3, {a.rows});
  return {{"o", {t, width}, v.type()}};
}

// q k^T and p v.
double Flops(const OpView& v) {
  const OpAttrs& a = v.attrs();
  return 4.0 * static_cast<double>(v.Out(0).elements()) * static_cast<double>(a.sequence);
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(RelativeAttentionArgs{.o = b.Output(0),
                                              .qkv = b.Input(0),
                                              .table = b.Input(1),
                                              .places = b.InputInts(2),
                                              .key_counts = b.InputInts(3),
                                              .b = a.rows,
                                              .s = a.sequence,
                                              .heads = a.q_heads,
                                              .d = a.head_dim,
                                              .p = b.In(1)[0]});
}

}  // namespace

OpRules RelativeAttentionRules() {
  return {.inputs = {{"qkv"}, {"table"}, {"places"}, {"key_counts"}},
          .outputs = {{"o"}},
          .shapes = &Shapes,
          .flops = &Flops,
          .bind = &Bind};
}

}  // namespace angel_ptm
