#include "angel_ptm/model/autoencoder_kl.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

constexpr float kNormEpsilon = 1e-6f;

// The effect of a convolution on the sides of an image.
enum class Sides { kKeep, kHalve, kDouble };

class AutoencoderKl {
 public:
  AutoencoderKl(std::string name, const AutoencoderKlShape& shape, int64_t height, int64_t width)
      : shape_(shape), height_(height), width_(width), builder_(std::move(name)) {}

  void Encode();
  void Decode();
  Graph Build() { return builder_.BuildForward(); }

 private:
  int64_t Channels(TensorId x) { return builder_.graph().tensors[x].shape[1]; }
  TensorId Parameter(const std::string& name, Shape shape, Shape exported = {}) {
    if (exported.rank() == 0) exported = shape;
    return builder_.AddParameter(unit_, name, std::move(shape), InitialValues::Normal(0), /*weight_decay=*/false,
                                 {{name, 0, std::move(exported)}});
  }
  TensorId Plus(const std::string& name, TensorId x, TensorId rows) {
    return builder_.Append(OpKind::kAddRows, name, {x, rows})[0];
  }
  // Convolves the current image and updates height_ and width_.
  TensorId Convolve(const std::string& name, TensorId x, int64_t out, Sides sides = Sides::kKeep);
  // One product per pixel. The exported weight has the shape of a 1x1 convolution or of a linear layer.
  TensorId Multiply(const std::string& name, TensorId x, int64_t out, bool is_convolution);
  TensorId Norm(const std::string& name, TensorId x, bool silu);
  TensorId Residual(const std::string& name, TensorId x, int64_t out);
  TensorId Attention(const std::string& name, TensorId x);
  TensorId Middle(const std::string& name, TensorId x);
  void MarkOutput(TensorId t, const char* name) {
    builder_.graph().tensors[t].tensor_class = TensorClass::kOutput;
    builder_.graph().tensors[t].name = name;
  }

  const AutoencoderKlShape shape_;
  int64_t height_, width_;  // of the current image
  GraphBuilder builder_;
  UnitId unit_ = kNone;  // of parameters
};

// A halving convolution is padded with zeros only below and on the right, as in diffusers.
TensorId AutoencoderKl::Convolve(const std::string& name, TensorId x, int64_t out, Sides sides) {
  const TensorId weight = Parameter(name + ".weight", {out, Channels(x), 3, 3});
  const TensorId bias = Parameter(name + ".bias", {out});
  const bool halves = sides == Sides::kHalve, doubles = sides == Sides::kDouble;
  const TensorId y = builder_.Append(OpKind::kConv2d, name, {x, weight, bias},
                                     {.height = height_,
                                      .width = width_,
                                      .kernel = 3,
                                      .stride = halves ? 2 : 1,
                                      .pad_before = halves ? 0 : 1,
                                      .pad_after = 1,
                                      .upsample = doubles ? 2 : 1})[0];
  if (halves) height_ /= 2, width_ /= 2;
  if (doubles) height_ *= 2, width_ *= 2;
  return y;
}

TensorId AutoencoderKl::Multiply(const std::string& name, TensorId x, int64_t out, bool is_convolution) {
  const int64_t in = Channels(x);
  const TensorId weight =
      Parameter(name + ".weight", {out, in}, is_convolution ? Shape{out, in, 1, 1} : Shape{out, in});
  const TensorId bias = Parameter(name + ".bias", {out});
  return Plus(name, builder_.Append(OpKind::kMatmul, name, {x, weight}, {.trans_b = true})[0], bias);
}

TensorId AutoencoderKl::Norm(const std::string& name, TensorId x, bool silu) {
  const TensorId weight = Parameter(name + ".weight", {Channels(x)}), bias = Parameter(name + ".bias", {Channels(x)});
  return builder_.Append(OpKind::kGroupNorm, name, {x, weight, bias},
                         {.epsilon = kNormEpsilon, .rows = 1, .groups = shape_.norm_num_groups, .silu = silu})[0];
}

TensorId AutoencoderKl::Residual(const std::string& name, TensorId x, int64_t out) {
  unit_ = builder_.AddUnit(name);
  TensorId h = Convolve(name + ".conv1", Norm(name + ".norm1", x, /*silu=*/true), out);
  h = Convolve(name + ".conv2", Norm(name + ".norm2", h, /*silu=*/true), out);
  const TensorId same = Channels(x) == out ? x : Multiply(name + ".conv_shortcut", x, out, /*is_convolution=*/true);
  return Plus(name + ".sum", same, h);
}

// One head, as wide as the number of channels, over all pixels.
TensorId AutoencoderKl::Attention(const std::string& name, TensorId x) {
  const int64_t c = Channels(x);
  const bool old = shape_.has_query_names;
  unit_ = builder_.AddUnit(name);
  const TensorId normed = Norm(name + ".group_norm", x, /*silu=*/false);
  const auto linear = [&](const char* now, const char* before, TensorId from) {
    return Multiply(absl::StrCat(name, ".", old ? before : now), from, c, /*is_convolution=*/false);
  };
  const TensorId q = linear("to_q", "query", normed), k = linear("to_k", "key", normed);
  const TensorId v = linear("to_v", "value", normed);
  const TensorId o = builder_.Append(OpKind::kAttention, name + ".attention", {q, k, v, kNone},
                                     {.rows = 1,
                                      .sequence = height_ * width_,
                                      .key_sequence = height_ * width_,
                                      .q_heads = 1,
                                      .kv_heads = 1,
                                      .head_dim = c,
                                      .column_end = c})[0];
  return Plus(name + ".sum", x, linear("to_out.0", "proj_attn", o));
}

TensorId AutoencoderKl::Middle(const std::string& name, TensorId x) {
  const int64_t c = Channels(x);
  x = Residual(name + ".resnets.0", x, c);
  x = Attention(name + ".attentions.0", x);
  return Residual(name + ".resnets.1", x, c);
}

void AutoencoderKl::Encode() {
  const size_t levels = shape_.block_out_channels.size();
  const TensorId image = builder_.AddInput("image", {height_ * width_, shape_.image_channels}, DType::kFloat32);
  unit_ = builder_.AddUnit("encoder.conv_in");
  TensorId x = Convolve("encoder.conv_in", image, shape_.block_out_channels[0]);
  for (size_t level = 0; level < levels; ++level) {
    const std::string name = absl::StrCat("encoder.down_blocks.", level);
    for (int64_t layer = 0; layer < shape_.layers_per_block; ++layer) {
      x = Residual(absl::StrCat(name, ".resnets.", layer), x, shape_.block_out_channels[level]);
    }
    if (level + 1 == levels) continue;
    x = Convolve(name + ".downsamplers.0.conv", x, shape_.block_out_channels[level], Sides::kHalve);
  }
  x = Middle("encoder.mid_block", x);
  unit_ = builder_.AddUnit("encoder.conv_out");
  x = Convolve("encoder.conv_out", Norm("encoder.conv_norm_out", x, /*silu=*/true), 2 * shape_.latent_channels);
  if (shape_.has_quant_conv) x = Multiply("quant_conv", x, 2 * shape_.latent_channels, /*is_convolution=*/true);
  MarkOutput(x, "moments");
}

void AutoencoderKl::Decode() {
  const size_t levels = shape_.block_out_channels.size();
  const TensorId latent = builder_.AddInput("latent", {height_ * width_, shape_.latent_channels}, DType::kFloat32);
  unit_ = builder_.AddUnit("decoder.conv_in");
  TensorId x = latent;
  if (shape_.has_post_quant_conv) x = Multiply("post_quant_conv", x, shape_.latent_channels, /*is_convolution=*/true);
  x = Convolve("decoder.conv_in", x, shape_.block_out_channels.back());
  x = Middle("decoder.mid_block", x);
  for (size_t block = 0; block < levels; ++block) {
    const std::string name = absl::StrCat("decoder.up_blocks.", block);
    const int64_t channels = shape_.block_out_channels[levels - 1 - block];
    for (int64_t layer = 0; layer < shape_.layers_per_block + 1; ++layer) {
      x = Residual(absl::StrCat(name, ".resnets.", layer), x, channels);
    }
    if (block + 1 < levels) x = Convolve(name + ".upsamplers.0.conv", x, channels, Sides::kDouble);
  }
  unit_ = builder_.AddUnit("decoder.conv_out");
  x = Convolve("decoder.conv_out", Norm("decoder.conv_norm_out", x, /*silu=*/true), shape_.image_channels);
  MarkOutput(x, "image");
}

}  // namespace

Graph BuildAutoencoderKlEncoder(const AutoencoderKlShape& shape, int64_t height, int64_t width) {
  APTM_CHECK(height % shape.reduction() == 0 && width % shape.reduction() == 0, height, " x ", width);
  AutoencoderKl model("encoder", shape, height, width);
  model.Encode();
  return model.Build();
}

Graph BuildAutoencoderKlDecoder(const AutoencoderKlShape& shape, int64_t height, int64_t width) {
  AutoencoderKl model("decoder", shape, height, width);
  model.Decode();
  return model.Build();
}

std::vector<std::string> AutoencoderKlEncoderTensors() { return {"encoder.*", "quant_conv.*"}; }
std::vector<std::string> AutoencoderKlDecoderTensors() { return {"decoder.*", "post_quant_conv.*"}; }

}  // namespace angel_ptm
