// Small members of the Hunyuan family for the tests of model/.
#ifndef ANGEL_PTM_TESTS_MODEL_MODEL_TESTING_H_
#define ANGEL_PTM_TESTS_MODEL_MODEL_TESTING_H_

#include "angel_ptm/model/hunyuan_lm.h"

namespace angel_ptm::model_testing {

inline HunyuanLmShape SmallShape(bool moe, bool tied) {
  HunyuanLmShape shape{.vocab_size = 80,
                       .hidden_size = 16,
                       .intermediate_size = 24,
                       .num_hidden_layers = 3,
                       .num_attention_heads = 4,
                       .num_key_value_heads = 2,
                       .head_dim = 6,
                       .tie_word_embeddings = tied};
  if (moe) {
    shape.num_experts = 4;
    shape.moe_topk = 2;
  }
  return shape;
}

inline constexpr HunyuanLmBatch kSmallBatch{
    .rows = 2, .sequence = 10, .lm_head_chunk_tokens = 8, .expert_block_rows = 4};

// Hunyuan-A13B: 32 layers of 64 experts and a shared one, top 8.
inline HunyuanLmShape A13BShape() {
  return {.vocab_size = 128167,
          .hidden_size = 4096,
          .intermediate_size = 3072,
          .num_hidden_layers = 32,
          .num_attention_heads = 32,
          .num_key_value_heads = 8,
          .head_dim = 128,
          .num_experts = 64,
          .moe_topk = 8,
          .rope_alpha = 1000,
          .tie_word_embeddings = true};
}

// Hunyuan-7B.
inline HunyuanLmShape Dense7BShape() {
  HunyuanLmShape shape = A13BShape();
  shape.intermediate_size = 14336;
  shape.num_experts = shape.moe_topk = 0;
  return shape;
}

}  // namespace angel_ptm::model_testing

#endif  // ANGEL_PTM_TESTS_MODEL_MODEL_TESTING_H_
