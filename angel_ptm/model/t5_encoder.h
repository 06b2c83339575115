// The graph of the encoder of transformers' T5EncoderModel and MT5EncoderModel, version 1.1: gated GELU, no biases
// (Raffel et al. 2020; Xue et al. 2021). Forward only.
#ifndef ANGEL_PTM_MODEL_T5_ENCODER_H_
#define ANGEL_PTM_MODEL_T5_ENCODER_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct T5Shape {
  int64_t vocab_size = 0;
  int64_t d_model = 0;
  int64_t d_kv = 0;  // width of a head; even
  int64_t d_ff = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t relative_attention_num_buckets = 32;  // a multiple of 4
  int64_t relative_attention_max_distance = 128;
  float layer_norm_epsilon = 1e-6f;
};

// Builds the graph for `batch` = B texts of `length` tokens each. Inputs, all int32: "tokens" [B*length], "places"
// [2*length-1] (T5DistancePlaces), and "key_counts" [B] as for BuildBertEncoder. Output: "states" [B*length, d_model],
// the last hidden states. The output, the parameters and all activations are of type `compute`. Every parameter is
// exported under transformers' name.
Graph BuildT5Encoder(const T5Shape& shape, int64_t batch, int64_t length, DType compute = DType::kFloat32);

// places[j - i + length - 1] is the bucket of the distance between query i and key j. Keys at or before the query use
// the first half of the buckets, keys after it the second half. The first half of the buckets of each are for single
// distances; the widths of the others grow logarithmically up to relative_attention_max_distance.
std::vector<int32_t> T5DistancePlaces(const T5Shape& shape, int64_t length);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_T5_ENCODER_H_
