// One shape rule per op kind (slots: op_kind.h).
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

struct Rule {
  const Graph& graph;
  OpKind kind;
  const std::vector<TensorId>& in;
  const OpAttrs& attrs;

  bool Has(int slot) const { return in[slot] != kNone; }
  const Shape& S(int slot) const { return graph.tensors[in[slot]].shape; }
  void Want(bool ok, int slot) const { APTM_CHECK(ok, Name(kind), " input ", slot, " has shape ", S(slot).ToString()); }
};

std::vector<OutputSpec> Matmul(const Rule& r) {
  const Shape &a = r.S(0), &b = r.S(1);
  const int64_t m = r.attrs.trans_a ? a[1] : a[0], k = r.attrs.trans_a ? a[0] : a[1];
  const int64_t n = r.attrs.trans_b ? b[0] : b[1];
  r.Want(a.rank() == 2, 0);
  r.Want(b.rank() == 2 && (r.attrs.trans_b ? b[1] : b[0]) == k, 1);
  return {{"c", {m, n}}};
}

std::vector<OutputSpec> AddRmsNorm(const Rule& r) {
  const Shape& x = r.S(0);
  if (r.Has(1)) r.Want(r.S(1) == x, 1);
  r.Want(r.S(2) == Shape{x[1]}, 2);
  return {{r.Has(1) ? "sum" : "", x}, {"y", x}, {"rstd", {x[0]}}};
}

std::vector<OutputSpec> QkRopeNorm(const Rule& r) {
  const OpAttrs& a = r.attrs;
  const int64_t t = r.S(0)[0];
  r.Want(r.S(0) == Shape{t, (a.q_heads + 2 * a.kv_heads) * a.head_dim}, 0);
  r.Want(r.S(1) == Shape{t, a.head_dim / 2, 2}, 1);
  return {{"q", {t, a.q_heads, a.head_dim}},
          {"k", {t, a.kv_heads, a.head_dim}},
          {"q_rstd", {t, a.q_heads}},
          {"k_rstd", {t, a.kv_heads}}};
}

std::vector<OutputSpec> Attention(const Rule& r) {
  const Shape& q = r.S(0);
  r.Want(q == Shape{r.attrs.rows * r.attrs.sequence, r.attrs.q_heads, r.attrs.head_dim}, 0);
  return {{"o", {q[0], q[1] * q[2]}}, {"lse", {q[1], q[0]}}};
}

std::vector<OutputSpec> CachedAttention(const Rule& r) {
  const OpAttrs& a = r.attrs;
  const Shape cache{a.rows, a.sequence, a.kv_heads, a.head_dim};
  return {{"o", {a.rows, a.q_heads * a.head_dim}}, {"k_cache", cache}, {"v_cache", cache}};
}

std::vector<OutputSpec> Router(const Rule& r) {
  const int64_t t = r.S(0)[0], e = r.S(1)[0], k = r.attrs.topk;
  r.Want(r.S(1) == Shape{e, r.S(0)[1]}, 1);
  return {{"weights", {t, k}}, {"experts", {t, k}, DType::kInt32}, {"probs", {t, e}}, {"counts", {e}, DType::kInt32}};
}

std::vector<OutputSpec> ExpertLayout(const Rule& r) {
  const int64_t t = r.S(0)[0], k = r.S(0)[1], e = r.attrs.experts, block = r.attrs.block_rows;
  const int64_t blocks = (t * k + e * (block - 1)) / block;
  return {{"row_of_pair", {t, k}, DType::kInt32},
          {"pair_of_row", {blocks * block}, DType::kInt32},
          {"block_expert", {blocks}, DType::kInt32},
          {"active_blocks", {1}, DType::kInt32}};
}

std::vector<OutputSpec> GroupedMatmul(const Rule& r) {
  const Shape &a = r.S(0), &b = r.S(1);
  const bool trans = r.attrs.trans_b;
  r.Want(b.rank() == 3 && (trans ? b[2] : b[1]) == a[1], 1);
  return {{"c", {a[0], trans ? b[1] : b[2]}}};
}

}  // namespace

std::vector<OutputSpec> InferOutputs(const Graph& graph, OpKind kind, const std::vector<TensorId>& inputs,
                                     const OpAttrs& attrs) {
  const Rule r{graph, kind, inputs, attrs};
  switch (kind) {
    case OpKind::kEmbedding:
      return {{"y", {r.S(1)[0], r.S(0)[1]}}};
    case OpKind::kEmbeddingGrad:
      return {{"dtable", {attrs.rows, r.S(0)[1]}}};
    case OpKind::kAddRmsNorm:
      return AddRmsNorm(r);
    case OpKind::kAddRmsNormGrad:
      return {{"dx", r.S(2)}, {"dweight", r.S(4)}};
    case OpKind::kMatmul:
      return Matmul(r);
    case OpKind::kRopeTable:
      return {{"cos_sin", {r.S(0)[0], attrs.head_dim / 2, 2}}};
    case OpKind::kQkRopeNorm:
      return QkRopeNorm(r);
    case OpKind::kQkRopeNormGrad:
      return {{"dqkv", r.S(2)}, {"dq_weight", r.S(6)}, {"dk_weight", r.S(7)}};
    case OpKind::kAttention:
      return Attention(r);
    case OpKind::kAttentionGrad:
      return {{"dq", r.S(3)}, {"dk", r.S(4)}, {"dqkv", r.S(5)}};
    case OpKind::kCachedAttention:
      return CachedAttention(r);
    case OpKind::kSwiglu:
      return {{"y", {r.S(0)[0], r.S(0)[1] / 2}}};
    case OpKind::kSwigluGrad:
      return {{"dgate_up", r.S(1)}};
    case OpKind::kRouter:
      return Router(r);
    case OpKind::kRouterGrad:
      return {{"dx", r.S(4)}, {"dgate", r.S(5)}};
    case OpKind::kExpertLayout:
      return ExpertLayout(r);
    case OpKind::kDispatch:
      return {{"rows", {r.S(1)[0], r.S(0)[1]}}};
    case OpKind::kDispatchGrad:
      return {{"dx", {r.S(1)[0], r.S(0)[1]}}};
    case OpKind::kGroupedMatmul:
      return GroupedMatmul(r);
    case OpKind::kGroupedMatmulGradWeight:
      return {{"dw", {attrs.experts, r.S(0)[1], r.S(1)[1]}}};
    case OpKind::kCombine:
      return {{"y", r.S(0)}};
    case OpKind::kCombineGrad:
      return {{"drows", r.S(1)}, {"dweights", r.S(2)}};
    case OpKind::kLinearCrossEntropy:
      return {{"token_loss", {r.S(0)[0]}}, {"", r.S(0)}, {"", r.S(1)}};
    case OpKind::kSquareSum:
    case OpKind::kAdamW:
      return {};
  }
  APTM_CHECK(false, static_cast<int>(kind));
}

}  // namespace angel_ptm
