// A diffusion transformer (Peebles & Xie 2023, DiT) in the form used by later image models: patches of an image or
// latent, adaptive LayerNorm with shift, scale and gate from the time and the condition, self-attention with QK-RMSNorm
// before 2D RoPE and, if conditioned on captions, cross-attention to a small bidirectional transformer over their
// tokens, which is trained jointly. Projections inside blocks have no biases.
//
// Nothing here is random: noise, times and dropped conditions are inputs.
#ifndef ANGEL_PTM_MODEL_DIT_H_
#define ANGEL_PTM_MODEL_DIT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Number of sinusoids of a time that the model reads: "time_features" [B, kTimeFeatures].
inline constexpr int64_t kTimeFeatures = 256;

struct DitShape {
  int64_t channels = 0, height = 0, width = 0;  // of the image or latent
  int64_t patch_size = 0;                       // divides height and width
  int64_t hidden_size = 0;                      // num_attention_heads heads, whose width is a multiple of 4
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  double rope_theta = 10000;
  float norm_eps = 1e-6f;
  float initializer_range = 0.02f;
  // The condition: a class, a caption, or nothing if both are 0. One additional class or token stands for no condition.
  int64_t class_count = 0;
  int64_t text_vocab_size = 0;
  int64_t text_length = 0;  // maximum number of tokens per caption
  int64_t text_hidden_size = 0;
  int64_t text_num_hidden_layers = 0;
  int64_t text_num_attention_heads = 0;
  bool learn_variance = false;      // doubles the output channels; the second half has a part in the loss
  std::vector<std::string> freeze;  // patterns of units that are not trained

  int64_t head_dim() const { return hidden_size / num_attention_heads; }
  int64_t grid_height() const { return height / patch_size; }
  int64_t grid_width() const { return width / patch_size; }
  int64_t tokens() const { return grid_height() * grid_width(); }  // per image
  int64_t patch_features() const { return channels * patch_size * patch_size; }
  int64_t out_channels() const { return learn_variance ? 2 * channels : channels; }
  bool reads_captions() const { return text_vocab_size > 0; }
  bool reads_classes() const { return class_count > 0; }
  int64_t blocks() const { return text_num_hidden_layers + num_hidden_layers; }
};

// Returns the table of the model's parameters with these states. The graphs below share it if it is passed to them;
// without one a graph has a table of its own with the parameters' state alone.
std::shared_ptr<const ParameterTable> DitParameters(const DitShape& shape,
                                                    std::vector<StateSpec> states = {ParameterState()});

// Inputs of all graphs, for B images: "noisy" [B*tokens(), patch_features()] fp32 (patches.h), "time_features"
// [B, kTimeFeatures] fp32, "cos_sin" [tokens(), head_dim()/2, 2] fp32 (patches.h), and "class_ids" [B] int32 or
// "tokens" [B*text_length] and "token_counts" [B] int32, which are at least 1.
//
// Forward only. Output: "prediction" [B*tokens(), out_channels() * patch_size^2] in the table's compute type, with the
// channels of the variance after the others. `weights`: the state from which trainable parameters are read.
Graph BuildDitForward(const DitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table = nullptr,
                      StateId weights = kParameterState);

// Forward and loss, the weighted mean square of the prediction's error. Further inputs: "target" like noisy,
// "sample_weight" [B] fp32, and "weight" [1] fp32, the weight of the micro-batch's sum of losses; with learn_variance
// also those of AppendHybridLoss (denoising_loss.h). Output: "sample_loss" [B], or [2B] with learn_variance.
Graph BuildDitEvaluation(const DitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table = nullptr,
                         StateId weights = kParameterState);

// The same with a backward pass. Blocks (those of the text first) whose entry in `recompute` is true are recomputed;
// recompute.size() must be shape.blocks().
Graph BuildDitTraining(const DitShape& shape, int64_t batch, const std::vector<bool>& recompute,
                       std::shared_ptr<const ParameterTable> table = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_DIT_H_
