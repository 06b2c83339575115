// The Hunyuan language models HunYuanDenseV1 and HunYuanMoEV1, as in Hugging Face transformers: a pre-norm decoder with
// grouped-query attention, QK-norm after RoPE, fixed-NTK RoPE and SwiGLU. MoE layers add a shared expert to the top k
// of E routed experts, with an fp32 gate, softmax before top-k, renormalised weights and no dropped tokens.
#ifndef ANGEL_PTM_MODEL_HUNYUAN_LM_H_
#define ANGEL_PTM_MODEL_HUNYUAN_LM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// The architecture; names follow the Hugging Face configuration.
struct HunyuanLmShape {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;  // of the dense MLP, of each routed expert and of the shared expert
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t num_experts = 0;  // 0: dense
  int64_t moe_topk = 0;
  double rope_theta = 10000;
  double rope_alpha = 0;  // 0: plain RoPE
  float rms_norm_eps = 1e-5f;
  bool tie_word_embeddings = false;
  float initializer_range = 0.02f;
  float router_aux_loss_coefficient = 0;
  std::vector<std::string> freeze;  // patterns of units that are not trained
  int expert_degree = 1;            // places over which experts are split (WorldShape); a divisor of num_experts

  bool is_moe() const { return num_experts > 0; }
};

// The size of a micro-batch, and the sizes that fix the order of summation (part of the numerics, never of the plan).
struct HunyuanLmBatch {
  int64_t rows = 0;      // sequences per micro-batch
  int64_t sequence = 0;  // tokens per sequence
  int64_t lm_head_chunk_tokens = 512;
  int64_t expert_block_rows = 16;
};

// Returns the table of the model's parameters with these states. The graphs below share it if it is passed to them;
// without one a graph has a table of its own with the parameters' state alone. If experts are split, every graph has
// the additional input Graph::first_expert.
std::shared_ptr<const ParameterTable> HunyuanLmParameters(const HunyuanLmShape& shape,
                                                          std::vector<StateSpec> states = {ParameterState()});

// Forward and loss. Inputs: "tokens", "targets" (negative: ignored), "positions", "segment_start" [rows*sequence] int32
// and "target_count" [1] fp32. Outputs: "token_loss" and, per MoE layer, "layers.<i>.mlp.router.counts". `weights`: the
// state from which trainable parameters are read.
Graph BuildHunyuanLmEvaluation(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                               std::shared_ptr<const ParameterTable> table = nullptr,
                               StateId weights = kParameterState);

// Forward, loss and backward; layers whose entry in `recompute` is true are recomputed in the backward pass.
// recompute.size() is the number of layers. Routers add to "<router>.loads" [E], which the caller must clear before
// each step. The optimizer (optim/) appends the update segment.
Graph BuildHunyuanLmTraining(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                             const std::vector<bool>& recompute, std::shared_ptr<const ParameterTable> table = nullptr);

// One decoding step of `rows` sequences with key-value caches of `sequence` tokens. Inputs: "tokens" [rows],
// "positions" [rows] and "position" [1]. Output: "logits.c" [rows,V].
Graph BuildHunyuanLmDecoding(const HunyuanLmShape& shape, int64_t rows, int64_t sequence, int64_t expert_block_rows,
                             std::shared_ptr<const ParameterTable> table = nullptr);

// Forward only up to the logits of every token, for parity checks against other implementations: inputs as for
// evaluation without targets, output "logits.c" [rows*sequence, V].
Graph BuildHunyuanLmLogits(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                           std::shared_ptr<const ParameterTable> table = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_HUNYUAN_LM_H_
