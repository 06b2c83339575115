// One shape rule per op kind (slots: op_kind.h).
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/expert_blocks.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

using Outputs = std::vector<OutputSpec>;

struct Rule {
  const Graph& graph;
  OpKind kind;
  const std::vector<TensorId>& in;
  const OpAttrs& attrs;

  bool Has(int slot) const { return in[slot] != kNone; }
  const Shape& S(int slot) const { return graph.tensors[in[slot]].shape; }
  void Want(bool ok, int slot) const { APTM_CHECK(ok, Name(kind), " input ", slot, " has shape ", S(slot).ToString()); }
  // An operand that is absent, where it may be, fits.
  void Fits(int slot, const Shape& shape) const {
    if (Has(slot)) Want(S(slot) == shape, slot);
  }
  // The operand's shape, which has this rank.
  const Shape& OfRank(int slot, int rank) const {
    Want(S(slot).rank() == rank, slot);
    return S(slot);
  }
};

Outputs Embedding(const Rule& r) {
  const Shape &table = r.OfRank(0, 2), &tokens = r.OfRank(1, 1);
  return {{"y", {tokens[0], table[1]}}};
}

Outputs EmbeddingGrad(const Rule& r) {
  const Shape& dy = r.OfRank(0, 2);
  r.Fits(1, {dy[0]});
  return {{"dtable", {r.attrs.rows, dy[1]}}};
}

Outputs Matmul(const Rule& r) {
  const Shape &a = r.OfRank(0, 2), &b = r.OfRank(1, 2);
  const int64_t m = r.attrs.trans_a ? a[1] : a[0], k = r.attrs.trans_a ? a[0] : a[1];
  const int64_t n = r.attrs.trans_b ? b[0] : b[1];
  r.Want((r.attrs.trans_b ? b[1] : b[0]) == k, 1);
  return {{"c", {m, n}}};
}

Outputs AddRmsNorm(const Rule& r) {
  const Shape& x = r.OfRank(0, 2);
  r.Fits(1, x);
  r.Fits(2, {x[1]});
  return {{r.Has(1) ? "sum" : "", x}, {"y", x}, {"rstd", {x[0]}}};
}

Outputs AddRmsNormGrad(const Rule& r) {
  const Shape& sum = r.OfRank(2, 2);
  r.Fits(0, sum);
  r.Fits(1, sum);
  r.Fits(3, {sum[0]});
  r.Fits(4, {sum[1]});
  return {{"dx", sum}, {"dweight", r.S(4)}};
}

Shape QkvShape(const Rule& r, int64_t tokens) {
  return {tokens, (r.attrs.q_heads + 2 * r.attrs.kv_heads) * r.attrs.head_dim};
}

Outputs RopeTable(const Rule& r) { return {{"cos_sin", {r.OfRank(0, 1)[0], r.attrs.head_dim / 2, 2}}}; }

Outputs QkRopeNorm(const Rule& r) {
  const OpAttrs& a = r.attrs;
  const int64_t t = r.S(0)[0];
  r.Fits(0, QkvShape(r, t));
  r.Fits(1, {t, a.head_dim / 2, 2});
  r.Fits(2, {a.head_dim});
  r.Fits(3, {a.head_dim});
  return {{"q", {t, a.q_heads, a.head_dim}},
          {"k", {t, a.kv_heads, a.head_dim}},
          {"q_rstd", {t, a.q_heads}},
          {"k_rstd", {t, a.kv_heads}}};
}

Outputs QkRopeNormGrad(const Rule& r) {
  const OpAttrs& a = r.attrs;
  const int64_t t = r.S(2)[0];
  r.Fits(0, {t, a.q_heads, a.head_dim});
  r.Fits(1, {t, a.kv_heads, a.head_dim});
  r.Fits(2, QkvShape(r, t));
  r.Fits(3, {t, a.q_heads});
  r.Fits(4, {t, a.kv_heads});
  r.Fits(5, {t, a.head_dim / 2, 2});
  r.Fits(6, {a.head_dim});
  r.Fits(7, {a.head_dim});
  return {{"dqkv", r.S(2)}, {"dq_weight", r.S(6)}, {"dk_weight", r.S(7)}};
}

// q, k, qkv of `tokens` tokens, in the slots from `first` on.
void QueryKeyValueFit(const Rule& r, int first, int64_t tokens) {
  r.Fits(first, {tokens, r.attrs.q_heads, r.attrs.head_dim});
  r.Fits(first + 1, {tokens, r.attrs.kv_heads, r.attrs.head_dim});
  r.Fits(first + 2, QkvShape(r, tokens));
}

Outputs Attention(const Rule& r) {
  const int64_t t = r.attrs.rows * r.attrs.sequence;
  QueryKeyValueFit(r, 0, t);
  r.Fits(3, {t});
  return {{"o", {t, r.attrs.q_heads * r.attrs.head_dim}}, {"lse", {r.attrs.q_heads, t}}};
}

Outputs AttentionGrad(const Rule& r) {
  const int64_t t = r.attrs.rows * r.attrs.sequence;
  r.Fits(0, {t, r.attrs.q_heads * r.attrs.head_dim});
  r.Fits(1, r.S(0));
  r.Fits(2, {r.attrs.q_heads, t});
  QueryKeyValueFit(r, 3, t);
  r.Fits(6, {t});
  return {{"dq", r.S(3)}, {"dk", r.S(4)}, {"dqkv", r.S(5)}};
}

Outputs CachedAttention(const Rule& r) {
  const OpAttrs& a = r.attrs;
  const Shape cache{a.rows, a.sequence, a.kv_heads, a.head_dim};
  QueryKeyValueFit(r, 0, a.rows);
  r.Fits(3, {1});
  return {{"o", {a.rows, a.q_heads * a.head_dim}}, {"k_cache", cache}, {"v_cache", cache}};
}

Outputs Swiglu(const Rule& r) {
  const Shape& gate_up = r.OfRank(0, 2);
  r.Want(gate_up[1] % 2 == 0, 0);
  r.Fits(1, {1});
  return {{"y", {gate_up[0], gate_up[1] / 2}}};
}

Outputs SwigluGrad(const Rule& r) {
  const Shape& dy = r.OfRank(0, 2);
  r.Fits(1, {dy[0], 2 * dy[1]});
  r.Fits(2, {1});
  return {{"dgate_up", r.S(1)}};
}

Outputs Router(const Rule& r) {
  const Shape& x = r.OfRank(0, 2);
  const int64_t t = x[0], e = r.OfRank(1, 2)[0], k = r.attrs.topk;
  r.Fits(1, {e, x[1]});
  return {{"weights", {t, k}}, {"experts", {t, k}, DType::kInt32}, {"probs", {t, e}}, {"counts", {e}, DType::kInt32}};
}

Outputs RouterGrad(const Rule& r) {
  const Shape& x = r.OfRank(4, 2);
  const int64_t t = x[0], e = r.OfRank(5, 2)[0];
  for (int slot = 0; slot < 3; ++slot) r.Fits(slot, {t, r.attrs.topk});
  r.Fits(3, {t, e});
  r.Fits(5, {e, x[1]});
  r.Fits(6, {e});
  r.Fits(7, {1});
  return {{"dx", x}, {"dgate", r.S(5)}};
}

Outputs ExpertLayout(const Rule& r) {
  const Shape& experts = r.OfRank(0, 2);
  const int64_t block = r.attrs.block_rows;
  const int64_t blocks = ExpertBlocksMax(experts[0], experts[1], r.attrs.experts, block);
  return {{"row_of_pair", experts, DType::kInt32},
          {"pair_of_row", {blocks * block}, DType::kInt32},
          {"block_expert", {blocks}, DType::kInt32},
          {"active_blocks", {1}, DType::kInt32}};
}

Outputs Dispatch(const Rule& r) {
  r.Fits(2, {1});
  return {{"rows", {r.OfRank(1, 1)[0], r.OfRank(0, 2)[1]}}};
}

Outputs DispatchGrad(const Rule& r) { return {{"dx", {r.OfRank(1, 2)[0], r.OfRank(0, 2)[1]}}}; }

Outputs GroupedMatmul(const Rule& r) {
  const Shape &a = r.OfRank(0, 2), &b = r.OfRank(1, 3);
  const bool trans = r.attrs.trans_b;
  r.Want((trans ? b[2] : b[1]) == a[1], 1);
  r.OfRank(2, 1);
  r.Fits(3, {1});
  return {{"c", {a[0], trans ? b[1] : b[2]}}};
}

Outputs GroupedMatmulGradWeight(const Rule& r) {
  const Shape &dy = r.OfRank(0, 2), &x = r.OfRank(1, 2);
  r.Want(x[0] == dy[0], 1);
  r.OfRank(2, 1);
  r.Fits(3, {1});
  return {{"dw", {r.attrs.experts, dy[1], x[1]}}};
}

Outputs Combine(const Rule& r) {
  const Shape &base = r.OfRank(0, 2), &rows = r.OfRank(1, 2), &weights = r.OfRank(2, 2);
  r.Want(rows[1] == base[1], 1);
  r.Want(weights[0] == base[0], 2);
  r.Fits(3, weights);
  return {{"y", base}};
}

Outputs CombineGrad(const Rule& r) {
  const Shape &dy = r.OfRank(0, 2), &rows = r.OfRank(1, 2), &weights = r.OfRank(2, 2);
  r.Want(rows[1] == dy[1], 1);
  r.Want(weights[0] == dy[0], 2);
  r.Fits(3, {rows[0]});
  r.Fits(4, {1});
  return {{"drows", rows}, {"dweights", weights}};
}

Outputs LinearCrossEntropy(const Rule& r) {
  const Shape &x = r.OfRank(0, 2), &weight = r.OfRank(1, 2);
  r.Want(weight[1] == x[1], 1);
  r.Fits(2, {x[0]});
  return {{"token_loss", {x[0]}}, {"", x}, {"", weight}};
}

}  // namespace

std::vector<OutputSpec> InferOutputs(const Graph& graph, OpKind kind, const std::vector<TensorId>& inputs,
                                     const OpAttrs& attrs) {
  const Rule r{graph, kind, inputs, attrs};
  switch (kind) {
    case OpKind::kEmbedding:
      return Embedding(r);
    case OpKind::kEmbeddingGrad:
      return EmbeddingGrad(r);
    case OpKind::kAddRmsNorm:
      return AddRmsNorm(r);
    case OpKind::kAddRmsNormGrad:
      return AddRmsNormGrad(r);
    case OpKind::kMatmul:
      return Matmul(r);
    case OpKind::kRopeTable:
      return RopeTable(r);
    case OpKind::kQkRopeNorm:
      return QkRopeNorm(r);
    case OpKind::kQkRopeNormGrad:
      return QkRopeNormGrad(r);
    case OpKind::kAttention:
      return Attention(r);
    case OpKind::kAttentionGrad:
      return AttentionGrad(r);
    case OpKind::kCachedAttention:
      return CachedAttention(r);
    case OpKind::kSwiglu:
      return Swiglu(r);
    case OpKind::kSwigluGrad:
      return SwigluGrad(r);
    case OpKind::kRouter:
      return Router(r);
    case OpKind::kRouterGrad:
      return RouterGrad(r);
    case OpKind::kExpertLayout:
      return ExpertLayout(r);
    case OpKind::kDispatch:
      return Dispatch(r);
    case OpKind::kDispatchGrad:
      return DispatchGrad(r);
    case OpKind::kGroupedMatmul:
      return GroupedMatmul(r);
    case OpKind::kGroupedMatmulGradWeight:
      return GroupedMatmulGradWeight(r);
    case OpKind::kCombine:
      return Combine(r);
    case OpKind::kCombineGrad:
      return CombineGrad(r);
    case OpKind::kLinearCrossEntropy:
      return LinearCrossEntropy(r);
    case OpKind::kSquareSum:
    case OpKind::kAdamW:
      return {};
  }
  APTM_CHECK(false, static_cast<int>(kind));
}

}  // namespace angel_ptm
