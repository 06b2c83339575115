// The closed list of op kinds with their operand slots: `inputs -> outputs`, `?` marks an operand that may be absent.
// Adding one touches: this list, its name in graph.cc, shape_rules.cc, backward.cc, cost.cc, exec/kernel_call.cc, the
// entry of KernelTable, and per backend a kernel and its workspace.
#ifndef ANGEL_PTM_MODEL_OP_KIND_H_
#define ANGEL_PTM_MODEL_OP_KIND_H_

#include <cstdint>
#include <string_view>

namespace angel_ptm {

enum class OpKind : uint8_t {
  kEmbedding,       // table[V,H], tokens[T] -> y[T,H]
  kEmbeddingGrad,   // dy, tokens -> dtable
  kAddRmsNorm,      // x[T,H], delta?, weight[H] -> sum? (with delta), y, rstd[T]
  kAddRmsNormGrad,  // dy, dsum?, sum, rstd, weight -> dx, dweight
  kMatmul,          // a, b -> c
  kRopeTable,       // positions[T] -> cos_sin[T,D/2,2]
  kQkRopeNorm,      // qkv[T,(Q+2G)D], cos_sin, q_weight[D], k_weight[D] -> q[T,Q,D], k[T,G,D], q_rstd[T,Q], k_rstd[T,G]
  kQkRopeNormGrad,  // dq, dk, qkv, q_rstd, k_rstd, cos_sin, q_weight, k_weight -> dqkv (query, key columns), dq_weight,
                    // dk_weight
  kAttention,       // q, k, qkv (value columns), segment_start[T] -> o[T,Q,D], lse[Q,T]
  kAttentionGrad,   // do, o, lse, q, k, qkv, segment_start -> dq, dk, dqkv (value columns)
  kCachedAttention,  // q, k, qkv, position[1] -> o, k_cache[B,S,G,D], v_cache
  kSwiglu,           // gate_up[R,2F], active_blocks? -> y[R,F]
  kSwigluGrad,       // dy, gate_up, active_blocks? -> dgate_up
  kRouter,           // x[T,H], gate[E,H] -> weights[T,K], experts[T,K], probs[T,E], counts[E]
  kRouterGrad,       // dweights, weights, experts, probs, x, gate, counts, target_count[1] -> dx, dgate
  kExpertLayout,     // experts[T,K] -> row_of_pair[T,K], pair_of_row[R], block_expert[R/block], active_blocks[1]
  kDispatch,         // x[T,H], pair_of_row, active_blocks -> rows[R,H]
  kDispatchGrad,     // drows, row_of_pair -> dx
  kGroupedMatmul,    // a[R,K], b[E,...], block_expert, active_blocks -> c[R,N]
  kGroupedMatmulGradWeight,  // dy[R,N], x[R,K], block_expert, active_blocks -> dw[E,N,K]
  kCombine,                  // base[T,H], rows[R,H], weights, row_of_pair -> y[T,H]
  kCombineGrad,              // dy, rows, weights, pair_of_row, active_blocks -> drows, dweights
  kLinearCrossEntropy,       // x[T,H], weight[V,H], targets[T] -> token_loss[T], dx?, dweight?
  kSquareSum,                // (unit's gradient) -> (step's sum)
  kAdamW,                    // (unit's parameters, moments, gradient)
};
inline constexpr int kOpKindCount = static_cast<int>(OpKind::kAdamW) + 1;

const char* Name(OpKind kind);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OP_KIND_H_
