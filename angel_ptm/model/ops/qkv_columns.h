// The columns of a fused tensor of queries, keys and values [T, (Q+2G)*D], for the ops that read or write some of
// them, and the scale of their products.
#ifndef ANGEL_PTM_MODEL_OPS_QKV_COLUMNS_H_
#define ANGEL_PTM_MODEL_OPS_QKV_COLUMNS_H_

#include <cmath>
#include <cstddef>

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

inline int64_t QkvWidth(const OpAttrs& a) { return (a.q_heads + 2 * a.kv_heads) * a.head_dim; }
inline ColumnRange QueryKeyColumns(const OpAttrs& a) { return {0, (a.q_heads + a.kv_heads) * a.head_dim}; }
// The columns of values in their tensor: those that the attributes give, else the last of the fused tensor.
inline ColumnRange ValueColumns(const OpAttrs& a) {
  if (a.column_end != 0) return {a.column_begin, a.column_end};
  return {QueryKeyColumns(a).end, QkvWidth(a)};
}

// The factor on products of queries and keys.
inline float AttentionScale(const OpAttrs& a) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)));
}

// The operand from its first value column on.
inline ConstOperand Values(const OpAttrs& a, ConstOperand qkv) {
  if (!qkv) return qkv;
  return {qkv.as<std::byte>() + ValueColumns(a).begin * SizeOf(qkv.dtype), qkv.dtype};
}
inline Operand Values(const OpAttrs& a, Operand qkv) {
  if (!qkv) return qkv;
  return {qkv.as<std::byte>() + ValueColumns(a).begin * SizeOf(qkv.dtype), qkv.dtype};
}

// Checks q, k and qkv of `tokens` tokens, in the slots from `first` on.
inline void QueryKeyValueFit(const OpView& v, int first, int64_t tokens) {
  const OpAttrs& a = v.attrs();
  v.Fits(first, {tokens, a.q_heads, a.head_dim});
  v.Fits(first + 1, {tokens, a.kv_heads, a.head_dim});
  v.Fits(first + 2, {tokens, QkvWidth(a)});
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OPS_QKV_COLUMNS_H_
