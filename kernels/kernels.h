// The door to computation: one argument struct per op and a table of function pointers per backend.
//
// Contract of every kernel:
// * Operands are dense, row-major, 64-byte aligned and do not overlap unless the struct says so. They are owned by the
//   caller. Columns of a wider matrix (those with a stride: attention's v and dv) are aligned to their elements only.
// * A kernel allocates nothing, keeps no state and never fails: shapes and dtypes were checked against BackendFacts
//   when the plan was made. Scratch memory comes from KernelContext::workspace, of the size BackendFacts publishes.
// * The result depends only on operand values, shapes and KernelContext::threads: never on addresses or timing.
// * Gradient operands marked (+)= are overwritten, or added to if the matching `accumulate` flag is set.
// * Values that change from step to step are read through pointers, so one bound argument struct serves all steps.
//
// Letters: T tokens (B rows of S), H hidden, V vocabulary, E experts, K experts per token, F expert or MLP width, Q/G
// query and key-value heads, D head dimension, R rows of the padded expert buffer = blocks * block_rows.
#ifndef ANGEL_PTM_KERNELS_KERNELS_H_
#define ANGEL_PTM_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/fixed_point.h"

namespace angel_ptm {

// Where a kernel runs and what it may use besides its operands.
struct KernelContext {
  int threads = 1;                 // part of the numerics: fixed for a run
  std::byte* workspace = nullptr;  // 64-byte aligned, at least the bytes BackendFacts asks for
  int64_t workspace_bytes = 0;
  void* stream = nullptr;  // a cudaStream_t for the CUDA backend
};

struct ConstOperand {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

struct Operand {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

// c[M,N] (+)= op(a) op(b). a is [M,K] ([K,M] if trans_a), b is [K,N] ([N,K] if trans_b).
struct MatmulArgs {
  Operand c;
  ConstOperand a, b;
  int64_t m = 0, n = 0, k = 0;
  bool trans_a = false, trans_b = false, accumulate = false;
};

// y[T,H] = table[V,H][tokens[T]].
struct EmbeddingArgs {
  Operand y;
  ConstOperand table;
  const int32_t* tokens = nullptr;
  int64_t t = 0, h = 0, v = 0;
};

// dtable[V,H] (+)= scatter of dy[T,H] by tokens, added in token order.
struct EmbeddingGradArgs {
  Operand dtable;
  ConstOperand dy;
  const int32_t* tokens = nullptr;
  int64_t t = 0, h = 0, v = 0;
  bool accumulate = false;
};

// sum = x + delta (if delta is given; otherwise sum is null and x is normed), y = sum / rms(sum) * weight,
// rstd[T] = 1 / sqrt(mean(sum^2) + epsilon). (Zhang & Sennrich 2019; as HunYuan: fp32 statistics.)
struct AddRmsNormArgs {
  Operand sum, y, rstd;           // [T,H], [T,H], [T] fp32
  ConstOperand x, delta, weight;  // [T,H], [T,H] or null, [H]
  int64_t t = 0, h = 0;
  float epsilon = 1e-5f;
};

// dx[T,H] = dsum (if given) + gradient through the norm; dweight[H] (+)=. `sum` is the normed input of the forward op.
struct AddRmsNormGradArgs {
  Operand dx, dweight;
  ConstOperand dy, dsum, sum, rstd, weight;  // dsum may be null
  int64_t t = 0, h = 0;
  bool accumulate_dweight = false;
};

// cos_sin[T, D/2, 2] fp32 for rotate-half RoPE at positions[T]. inv_freq_i = base^(-2i/D); alpha > 0 uses the fixed NTK
// base theta * alpha^(D/(D-2)) (HunYuan "dynamic" scaling), alpha == 0 uses theta.
struct RopeTableArgs {
  Operand cos_sin;
  const int32_t* positions = nullptr;
  int64_t t = 0, d = 0;
  double theta = 10000, alpha = 0;
};

// From qkv[T, (Q+2G)*D] (queries, then keys, then values): q[T,Q,D] = RMSNorm(RoPE(query)) * q_weight, k[T,G,D]
// likewise. QK-norm comes after RoPE (HunYuan V1). RoPE pairs element i with i + D/2.
struct QkRopeNormArgs {
  Operand q, k, q_rstd, k_rstd;  // [T,Q,D], [T,G,D], [T,Q] fp32, [T,G] fp32
  ConstOperand qkv, cos_sin, q_weight, k_weight;
  int64_t t = 0, q_heads = 0, kv_heads = 0, d = 0;
  float epsilon = 1e-5f;
};

// Writes the query and key columns of dqkv[T, (Q+2G)*D] (the value columns are AttentionGrad's), dq_weight[D] and
// dk_weight[D] (+)=.
struct QkRopeNormGradArgs {
  Operand dqkv, dq_weight, dk_weight;
  ConstOperand dq, dk, qkv, q_rstd, k_rstd, cos_sin, q_weight, k_weight;
  int64_t t = 0, q_heads = 0, kv_heads = 0, d = 0;
  bool accumulate_dweight = false;
};

// Causal grouped-query attention inside documents, never materialising S x S (Dao 2023, FlashAttention-2).
// o[T,Q,D] from q[T,Q,D], k[T,G,D] and v, whose token t starts at v + t * v_stride elements and holds [G,D]. Query i of
// row b sees keys j of the same row with segment_start[b*S+i] <= j <= i; what other tokens hold, NaN included, changes
// none of its results. lse[Q,T] is the log-sum-exp of the scaled scores.
struct AttentionArgs {
  Operand o, lse;
  ConstOperand q, k, v;
  int64_t v_stride = 0;
  const int32_t* segment_start = nullptr;  // [T], index within the row
  int64_t b = 0, s = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

// dq[T,Q,D], dk[T,G,D] and dv (strided like v) are overwritten. do_ is [T,Q,D]. Queries and keys that do not see each
// other change none of each other's gradients.
struct AttentionGradArgs {
  Operand dq, dk, dv;
  ConstOperand do_, o, lse, q, k, v;
  int64_t v_stride = 0, dv_stride = 0;
  const int32_t* segment_start = nullptr;
  int64_t b = 0, s = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

// One decoding step with a cache: writes k[B,G,D], v into row *position of k_cache and v_cache [B,S_max,G,D], then
// o[B,Q,D] attends over rows 0..*position.
struct CachedAttentionArgs {
  Operand o, k_cache, v_cache;
  ConstOperand q, k, v;
  int64_t v_stride = 0;
  const int32_t* position = nullptr;
  int64_t b = 0, s_max = 0, q_heads = 0, kv_heads = 0, d = 0;
  float scale = 0;
};

// y[R,F] = silu(gate) * up with gate_up[R,2F] = [gate | up]. active_blocks, if given, points to the number of leading
// blocks of block_rows rows that hold data; later rows are neither read nor written.
struct SwigluArgs {
  Operand y;
  ConstOperand gate_up;
  int64_t rows = 0, f = 0, block_rows = 0;
  const int32_t* active_blocks = nullptr;
};

struct SwigluGradArgs {
  Operand dgate_up;  // [R,2F]
  ConstOperand dy, gate_up;
  int64_t rows = 0, f = 0, block_rows = 0;
  const int32_t* active_blocks = nullptr;
};

// logits = x gate^T in fp32, probs = softmax over all experts, the top k (ties: lower expert first), weights
// renormalised to sum 1.
struct RouterArgs {
  Operand weights, probs;      // [T,K], [T,E] fp32
  int32_t* experts = nullptr;  // [T,K], by falling probability
  int32_t* counts = nullptr;   // [E] (token, choice) pairs per expert
  ConstOperand x, gate;        // [T,H], [E,H] fp32
  int64_t t = 0, h = 0, e = 0, k = 0;
};

// Gradient of  sum_loss + aux_coefficient * target_count * aux,  aux = E * sum_e (counts_e / (T K)) * mean_t probs_te
// (Fedus et al. 2021, eq. 4, over the top k), with respect to x and gate. dx[T,H] (+)=, dgate[E,H] (+)=.
// Workspace: T * E fp32.
struct RouterGradArgs {
  Operand dx, dgate;
  ConstOperand dweights, weights, probs, x, gate;
  const int32_t* experts = nullptr;
  const int32_t* counts = nullptr;
  const float* target_count = nullptr;  // scalar: target tokens of this micro-batch
  float aux_coefficient = 0;
  int64_t t = 0, h = 0, e = 0, k = 0;
  bool accumulate_dx = false, accumulate_dgate = false;
};

// Groups (token, choice) pairs by expert into blocks of block_rows rows; within an expert in order of (token, choice).
// Every expert starts on a block border, so the rows a product works on never depend on how full the others are.
// row_of_pair[T,K]: destination row. pair_of_row[R]: t*K+k, or -1 for a padding row. block_expert[R/block_rows]: the
// expert of each block, -1 behind the last. *active_blocks: blocks in use. R/block_rows = ExpertBlocksMax
// (base/expert_blocks.h). Workspace: E int32.
struct ExpertLayoutArgs {
  int32_t* row_of_pair = nullptr;
  int32_t* pair_of_row = nullptr;
  int32_t* block_expert = nullptr;
  int32_t* active_blocks = nullptr;
  const int32_t* experts = nullptr;  // [T,K]
  int64_t t = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
};

// rows[R,H] = x[T,H] gathered by pair_of_row; padding rows of active blocks are zero.
struct DispatchArgs {
  Operand rows;
  ConstOperand x;
  const int32_t* pair_of_row = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t t = 0, h = 0, k = 0, block_rows = 0, blocks_max = 0;
};

// dx[T,H] (+)= sum over choices of drows[row_of_pair[t,k]], in order of k.
struct DispatchGradArgs {
  Operand dx;
  ConstOperand drows;
  const int32_t* row_of_pair = nullptr;
  int64_t t = 0, h = 0, k = 0;
  bool accumulate = false;
};

// For each active block i: c_i[block_rows,N] = a_i[block_rows,K] op(b[block_expert[i]]). trans_b: b is [E,N,K], else
// [E,K,N].
struct GroupedMatmulArgs {
  Operand c;
  ConstOperand a, b;
  const int32_t* block_expert = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t n = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
  bool trans_b = false;
};

// dw[E,N,K] (+)= sum over the expert's blocks, in order, of dy_i[block_rows,N]^T x_i[block_rows,K]. Experts without
// rows get zero (unchanged if accumulate).
struct GroupedMatmulGradWeightArgs {
  Operand dw;
  ConstOperand dy, x;
  const int32_t* block_expert = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t n = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
  bool accumulate = false;
};

// y[T,H] = base[T,H] + sum_k weights[t,k] * rows[row_of_pair[t,k]], in order of k.
struct CombineArgs {
  Operand y;
  ConstOperand base, rows, weights;
  const int32_t* row_of_pair = nullptr;
  int64_t t = 0, h = 0, k = 0;
};

// drows[R,H]: weights * dy for real rows, zero for padding rows of active blocks. dweights[T,K] = dot(dy[t],
// rows[row]). (The gradient of base is dy itself.)
struct CombineGradArgs {
  Operand drows, dweights;
  ConstOperand dy, rows, weights;
  const int32_t* pair_of_row = nullptr;
  const int32_t* active_blocks = nullptr;
  int64_t t = 0, h = 0, k = 0, block_rows = 0, blocks_max = 0;
};

// Linear layer and cross-entropy in one op over chunks of chunk_tokens tokens, so that [T,V] logits never exist.
// token_loss[T] = logsumexp(x weight^T) - logit[target], 0 where the target is negative. If dx is given, dx[T,H] and
// dweight[V,H] (+)= get the gradient of the SUM of token losses. Workspace: chunk_tokens * V fp32.
struct LinearCrossEntropyArgs {
  Operand token_loss, dx, dweight;  // dx and dweight both given or both null
  ConstOperand x, weight;           // [T,H], [V,H]
  const int32_t* targets = nullptr;
  int64_t t = 0, h = 0, v = 0, chunk_tokens = 0;
  bool accumulate_dweight = false;
};

// *total += sum of values[n]^2, as fixed-point sums of groups of kSquareSumGroup elements: any split at group borders
// and any order of calls gives the same bits. Non-finite values set total->non_finite. n is a multiple of
// kSquareSumGroup.
inline constexpr int64_t kSquareSumGroup = 256;
struct SquareSumArgs {
  FixedPointSum* total = nullptr;
  ConstOperand values;
  int64_t n = 0;
};

// Per-step numbers of AdamW, filled by the trainer before the update segment runs.
struct AdamWScalars {
  float learning_rate = 0;
  float gradient_scale = 1;    // clip factor / number of target tokens
  float bias_correction1 = 1;  // 1 - beta1^t
  float bias_correction2 = 1;  // 1 - beta2^t
};

// Elements [begin, end) of a unit's flat vector.
struct ElementSpan {
  int64_t begin = 0, end = 0;
};

// AdamW with decoupled decay (Loshchilov & Hutter 2019), one IEEE operation sequence on every ISA:
//   g = grad * gradient_scale;  m += (1-beta1)*(g-m);  v += (1-beta2)*(g*g-v);
//   p -= lr * ( (m/bc1) / (sqrt(v/bc2) + epsilon) + weight_decay * p ).
struct AdamWArgs {
  Operand param, m, v;  // [n] fp32
  ConstOperand grad;    // [n] fp32
  int64_t n = 0;
  int64_t unit_offset = 0;                // index of param[0] in the unit's flat vector
  const ElementSpan* no_decay = nullptr;  // without weight decay: sorted, disjoint
  int64_t no_decay_count = 0;
  const AdamWScalars* scalars = nullptr;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
};

// One backend. Every pointer is set; a backend that cannot run a shape says so through its BackendFacts.
struct KernelTable {
  const char* name;
  void (*matmul)(const MatmulArgs&, const KernelContext&);
  void (*embedding)(const EmbeddingArgs&, const KernelContext&);
  void (*embedding_grad)(const EmbeddingGradArgs&, const KernelContext&);
  void (*add_rms_norm)(const AddRmsNormArgs&, const KernelContext&);
  void (*add_rms_norm_grad)(const AddRmsNormGradArgs&, const KernelContext&);
  void (*rope_table)(const RopeTableArgs&, const KernelContext&);
  void (*qk_rope_norm)(const QkRopeNormArgs&, const KernelContext&);
  void (*qk_rope_norm_grad)(const QkRopeNormGradArgs&, const KernelContext&);
  void (*attention)(const AttentionArgs&, const KernelContext&);
  void (*attention_grad)(const AttentionGradArgs&, const KernelContext&);
  void (*cached_attention)(const CachedAttentionArgs&, const KernelContext&);
  void (*swiglu)(const SwigluArgs&, const KernelContext&);
  void (*swiglu_grad)(const SwigluGradArgs&, const KernelContext&);
  void (*router)(const RouterArgs&, const KernelContext&);
  void (*router_grad)(const RouterGradArgs&, const KernelContext&);
  void (*expert_layout)(const ExpertLayoutArgs&, const KernelContext&);
  void (*dispatch)(const DispatchArgs&, const KernelContext&);
  void (*dispatch_grad)(const DispatchGradArgs&, const KernelContext&);
  void (*grouped_matmul)(const GroupedMatmulArgs&, const KernelContext&);
  void (*grouped_matmul_grad_weight)(const GroupedMatmulGradWeightArgs&, const KernelContext&);
  void (*combine)(const CombineArgs&, const KernelContext&);
  void (*combine_grad)(const CombineGradArgs&, const KernelContext&);
  void (*linear_cross_entropy)(const LinearCrossEntropyArgs&, const KernelContext&);
  void (*square_sum)(const SquareSumArgs&, const KernelContext&);
  void (*adamw)(const AdamWArgs&, const KernelContext&);
};

// The host backend (kernels/cpu). Uses OpenMP teams of KernelContext::threads, and OpenBLAS for matrix products.
const KernelTable& CpuKernels();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_KERNELS_H_
