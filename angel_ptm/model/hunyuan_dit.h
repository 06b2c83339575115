// Hunyuan-DiT (Li et al. 2024), exactly as diffusers' HunyuanDiT2DModel, whose tensor names its parameters have:
// patches of a latent, LayerNorm shifted by the time's embedding, self-attention and cross-attention with heads normed
// before 2D RoPE, and long skips from the first half of the blocks to the second. The states of two text encoders are
// inputs: those of a bilingual CLIP are read as they are, those of a T5 through a small MLP; a pooled T5 state is added
// to the time's embedding. Rows of padding are replaced by learned rows, so attention sees all rows.
//
// With `control` there is a branch as in diffusers' HunyuanDiT2DControlNetModel (Zhang et al. 2023, ControlNet): copies
// of the first skips() blocks, which also read a condition and whose projected results are added to the long skips. The
// model itself (the base) and the branch's own embedders are frozen. The projections start as zeros, so the branch
// starts without effect.
//
// Nothing here is random: noise, times and dropped conditions are inputs.
#ifndef ANGEL_PTM_MODEL_HUNYUAN_DIT_H_
#define ANGEL_PTM_MODEL_HUNYUAN_DIT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct HunyuanDitShape {
  int64_t channels = 4, height = 0, width = 0;  // of the latent
  int64_t patch_size = 2;                       // divides height and width
  int64_t hidden_size = 0;                      // num_attention_heads heads, whose width is a multiple of 4
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;  // even
  int64_t num_attention_heads = 0;
  int64_t clip_hidden_size = 1024, clip_length = 77;  // clip_hidden_size: the width of all texts' rows
  int64_t t5_hidden_size = 2048, t5_length = 256;     // the size is a multiple of the pooler's 8 heads
  int64_t pooled_size = 1024;                         // of the pooled T5
  bool learn_sigma = true;                            // doubles the output channels, for the variance
  bool variance_in_loss = false;                      // with learn_sigma: the variance is trained
  bool size_and_style = false;      // conditions of v1.1 and earlier: size and crop of the image, a style
  bool control = false;             // a branch that reads a condition; num_hidden_layers is at least 4
  std::vector<std::string> freeze;  // patterns of units that are not trained

  int64_t head_dim() const { return hidden_size / num_attention_heads; }
  int64_t grid_height() const { return height / patch_size; }
  int64_t grid_width() const { return width / patch_size; }
  int64_t tokens() const { return grid_height() * grid_width(); }
  int64_t patch_features() const { return channels * patch_size * patch_size; }
  int64_t out_channels() const { return learn_sigma ? 2 * channels : channels; }
  int64_t text_length() const { return clip_length + t5_length; }
  int64_t skips() const { return num_hidden_layers / 2 - 1; }  // long skips, also the number of blocks of the branch
  // Number of blocks that have a backward pass and may be recomputed for it. With a branch these are its blocks,
  // followed by the blocks of the base that read skips.
  int64_t recomputable_blocks() const { return control ? 2 * skips() : num_hidden_layers; }
};

// Number of sinusoids of a time or of one size (TimeFeatures, patches.h), and number of sizes.
inline constexpr int64_t kHunyuanFeatures = 256, kHunyuanSizes = 6;

// Prefixes of the names of the branch's units, and of its parameters in exports: "control.blocks.0", and
// "controlnet.blocks.0.norm2.weight" for blocks.0.norm2.weight of a HunyuanDiT2DControlNetModel.
inline constexpr char kControlUnits[] = "control.", kControlNames[] = "controlnet.";

// Like DitParameters (dit.h). Every parameter is exported under diffusers' name.
std::shared_ptr<const ParameterTable> HunyuanDitParameters(const HunyuanDitShape& shape,
                                                           std::vector<StateSpec> states = {ParameterState()});

// The unit of the base from whose vector a unit of the branch is initialised; kNone for units of the base and for the
// projections, which start as zeros.
UnitId HunyuanControlSource(const ParameterTable& table, UnitId unit);
// Whether the unit belongs to the branch.
bool IsOfControl(const Unit& unit);

// Inputs of all graphs, for B images: "noisy" [B*tokens(), patch_features()] fp32 (patches.h), "time_features" [B,
// kHunyuanFeatures] fp32, "cos_sin" [tokens(), head_dim()/2, 2] fp32 (HunyuanRopeTable), "clip" [B*clip_length,
// clip_hidden_size] and "t5" [B*t5_length, t5_hidden_size] fp32, "text_rows" [B*text_length()] int32 (HunyuanTextRows);
// with size_and_style also "size_features" [B, kHunyuanSizes * kHunyuanFeatures] fp32 and "style" [B] int32, which is
// 0; with control also "condition", like "noisy".
//
// Forward only. Output: "prediction" [B*tokens(), out_channels() * patch_size^2] in the table's compute type: patches
// with channels last, those of the variance after the others. Further input with control: "control_scale" [1,
// hidden_size] fp32, a factor on what the branch adds to each skip. `weights`: the state from which trainable
// parameters are read.
Graph BuildHunyuanDitForward(const HunyuanDitShape& shape, int64_t batch,
                             std::shared_ptr<const ParameterTable> table = nullptr, StateId weights = kParameterState);

// Forward and loss, the weighted mean square of the prediction's error. Further inputs: "target" [B*tokens(),
// patch_features()] fp32, channels last, "sample_weight" [B] fp32, and "weight" [1] fp32, the weight of the
// micro-batch's sum of losses; with variance_in_loss also those of AppendHybridLoss (denoising_loss.h). Output:
// "sample_loss" [B], or [2B] with variance_in_loss.
Graph BuildHunyuanDitEvaluation(const HunyuanDitShape& shape, int64_t batch,
                                std::shared_ptr<const ParameterTable> table = nullptr,
                                StateId weights = kParameterState);

// The same with a backward pass. Blocks whose entry in `recompute` is true are recomputed; recompute.size() must be
// recomputable_blocks().
Graph BuildHunyuanDitTraining(const HunyuanDitShape& shape, int64_t batch, const std::vector<bool>& recompute,
                              std::shared_ptr<const ParameterTable> table = nullptr);

// cos_sin[tokens(), head_dim()/2, 2] of the model's 2D RoPE with base 10000: the first half of the pairs rotates with
// the column, the other with the row. Positions are those in a square grid with sides of 64 / patch_size, the grid of
// the first training, into which this grid is fitted, centred and with its proportions kept.
void HunyuanRopeTable(const HunyuanDitShape& shape, std::span<float> cos_sin);

// Fills text_rows[text_length()] for sample `row` of a batch of `batch`: entry i refers to row i of the sample's texts,
// CLIP's first, if keep[i] is not 0, and to learned padding otherwise.
void HunyuanTextRows(const HunyuanDitShape& shape, int64_t batch, int64_t row, std::span<const int32_t> keep,
                     std::span<int32_t> text_rows);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_HUNYUAN_DIT_H_
