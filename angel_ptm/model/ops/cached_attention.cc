// CachedAttention: q, k, qkv (value columns), position[1] -> o[B,Q*D], k_cache[B,S,G,D], v_cache. Decoding only.
#include "kernels/ops/cached_attention.h"

#include "angel_ptm/model/ops/qkv_columns.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const OpAttrs& a = v.attrs();
  const Shape cache{a.rows, a.sequence, a.kv_heads, a.head_dim};
  QueryKeyValueFit(v, 0, a.rows);
  v.Fits(3, {1});
  return {
      {"o", {a.rows, a.q_heads * a.head_dim}, v.type()}, {"k_cache", cache, v.type()}, {"v_cache", cache, v.type()}};
}

double Flops(const OpView& v) {
  const OpAttrs& a = v.attrs();
  return 4.0 * a.rows * a.sequence * a.q_heads * a.head_dim;
}

// Assumes full caches.
double Bytes(const OpView& v) { return 2 * v.Bytes(static_cast<double>(v.Out(1).elements())); }

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  const OpAttrs& a = b.attrs();
  return MakeKernelCall(CachedAttentionArgs{.o = b.Output(0),
                                            .k_cache = b.Output(1),
                                            .v_cache = b.Output(2),
                                            .q = b.Input(0),
                                            .k = b.Input(1),
                                            .v = Values(a, b.Input(2)),
                                            .v_stride = QkvWidth(a),
                                            .position = b.InputInts(3),
                                            .b = a.rows,
                                            .s_max = a.sequence,
                                            .q_heads = a.q_heads,
                                            .kv_heads = a.kv_heads,
                                            .d = a.head_dim,
                                            .scale = AttentionScale(a)});
}

}  // namespace

OpRules CachedAttentionRules() {
  return {.inputs = {{"q"}, {"k"}, {"qkv"}, {"position"}},
          .outputs = {{"o"},
                      {.name = "k_cache", .access = Access::kReadWrite},
                      {.name = "v_cache", .access = Access::kReadWrite}},
          .shapes = &Shapes,
          .flops = &Flops,
          .bytes = &Bytes,
          .bind = &Bind};
}

}  // namespace angel_ptm
