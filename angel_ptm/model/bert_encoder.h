// The graph of transformers' BertModel (Devlin et al. 2019) without its pooler: the bilingual CLIP text encoder of
// Hunyuan-DiT. Forward only.
#ifndef ANGEL_PTM_MODEL_BERT_ENCODER_H_
#define ANGEL_PTM_MODEL_BERT_ENCODER_H_

#include <cstdint>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct BertShape {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;  // num_attention_heads heads of even width
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  float layer_norm_eps = 1e-12f;
};

// Builds the graph for `batch` = B texts of `length` tokens each, at most max_position_embeddings. Inputs, all int32:
// "tokens", "positions" and "token_types" [B*length], and "key_counts" [B], the number of leading tokens of each text,
// at least one, that attention sees; the rest are padding. Output: "states" [B*length, hidden_size], the last hidden
// states. The output, the parameters and all activations are of type `compute`. Every parameter is exported under
// transformers' name, relative to BertModel.
Graph BuildBertEncoder(const BertShape& shape, int64_t batch, int64_t length, DType compute = DType::kFloat32);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_BERT_ENCODER_H_
