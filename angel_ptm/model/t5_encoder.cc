#include "angel_ptm/model/t5_encoder.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/model/linear_layers.h"

namespace angel_ptm {
namespace {

constexpr float kInitialDeviation = 0.05f;

class T5Encoder {
 public:
  T5Encoder(const T5Shape& shape, int64_t batch, int64_t length, DType compute)
      : shape_(shape), batch_(batch), length_(length), builder_("t5_encoder") {
    builder_.Freeze({"*"});
    builder_.ComputeIn(compute);
  }

  Graph Build();

 private:
  TensorId Parameter(const std::string& name, const Shape& shape, InitialValues initial) {
    return builder_.AddParameter(unit_, name, shape, initial, shape.rank() > 1, {{name, 0, shape}});
  }
  TensorId Linears(const std::string& prefix, const std::vector<std::string>& names, TensorId x, int64_t out) {
    return AppendLinears(builder_, unit_, prefix, names, x, out, InitialValues::Normal(kInitialDeviation),
                         /*bias=*/false);
  }
  // Adds `delta`, unless it is kNone, to the sum of the blocks so far, and returns the normed sum.
  TensorId Norm(const std::string& name, TensorId delta) {
    const TensorId weight = Parameter(name + ".weight", {shape_.d_model}, InitialValues::Ones());
    const auto normed =
        builder_.Append(OpKind::kAddRmsNorm, name, {sum_, delta, weight}, {.epsilon = shape_.layer_norm_epsilon});
    if (delta != kNone) sum_ = normed[0];
    return normed[1];
  }
  // The layer's contribution to the sum.
  TensorId Attention(const std::string& name, TensorId x);
  TensorId FeedForward(const std::string& name, TensorId x);

  const T5Shape shape_;
  const int64_t batch_, length_;
  GraphBuilder builder_;
  UnitId unit_ = kNone;  // of parameters
  TensorId places_ = kNone, key_counts_ = kNone, bias_ = kNone, sum_ = kNone;
};

TensorId T5Encoder::Attention(const std::string& name, TensorId x) {
  const TensorId qkv = Linears(name, {"q", "k", "v"}, x, shape_.num_heads * shape_.d_kv);
  const TensorId attended =
      builder_.Append(OpKind::kRelativeAttention, name + "attention", {qkv, bias_, places_, key_counts_},
                      {.rows = batch_,
                       .sequence = length_,
                       .q_heads = shape_.num_heads,
                       .kv_heads = shape_.num_heads,
                       .head_dim = shape_.d_kv})[0];
  return Linears(name, {"o"}, attended, shape_.d_model);
}

// The GELU of one product times another product (Shazeer 2020).
TensorId T5Encoder::FeedForward(const std::string& name, TensorId x) {
  const TensorId inner = Linears(name, {"wi_0"}, x, shape_.d_ff), up = Linears(name, {"wi_1"}, x, shape_.d_ff);
  const TensorId gate = builder_.Append(OpKind::kGelu, name + "gate", {inner})[0];
  const TensorId gated =
      builder_.Append(OpKind::kGatedAdd, name + "gated", {kNone, up, gate}, {.column_end = shape_.d_ff})[0];
  return Linears(name, {"wo"}, gated, shape_.d_model);
}

Graph T5Encoder::Build() {
  const TensorId tokens = builder_.AddInput("tokens", {batch_ * length_}, DType::kInt32);
  places_ = builder_.AddInput("places", {2 * length_ - 1}, DType::kInt32);
  key_counts_ = builder_.AddInput("key_counts", {batch_}, DType::kInt32);
  unit_ = builder_.AddUnit("embeddings");
  const TensorId table = Parameter("shared.weight", {shape_.vocab_size, shape_.d_model}, InitialValues::Normal(1));
  sum_ = builder_.Append(OpKind::kEmbedding, "embedded", {table, tokens})[0];
  // A unit of its own, because every layer reads it.
  unit_ = builder_.AddUnit("relative_attention_bias");
  bias_ = Parameter("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                    {shape_.relative_attention_num_buckets, shape_.num_heads}, InitialValues::Normal(1));
  TensorId delta = kNone;
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    unit_ = builder_.AddUnit(absl::StrCat("layers.", layer));
    const std::string name = absl::StrCat("encoder.block.", layer, ".layer.");
    delta = Attention(name + "0.SelfAttention.", Norm(name + "0.layer_norm", delta));
    delta = FeedForward(name + "1.DenseReluDense.", Norm(name + "1.layer_norm", delta));
  }
  unit_ = builder_.AddUnit("final_norm");
  const TensorId states = Norm("encoder.final_layer_norm", delta);
  builder_.graph().tensors[states].tensor_class = TensorClass::kOutput;
  builder_.graph().tensors[states].name = "states";
  return builder_.BuildForward();
}

}  // namespace

Graph BuildT5Encoder(const T5Shape& shape, int64_t batch, int64_t length, DType compute) {
  return T5Encoder(shape, batch, length, compute).Build();
}

std::vector<int32_t> T5DistancePlaces(const T5Shape& shape, int64_t length) {
  const int64_t half = shape.relative_attention_num_buckets / 2, exact = half / 2;
  // Computed in fp32 like the library, so that a distance at the boundary of two buckets falls into the same one.
  const auto scale = static_cast<float>(
      std::log(static_cast<double>(shape.relative_attention_max_distance) / static_cast<double>(exact)));
  std::vector<int32_t> places;
  for (int64_t distance = 1 - length; distance < length; ++distance) {
    const int64_t far = std::abs(distance);
    int64_t place = far;
    if (far >= exact) {
      const float wide =
          std::log(static_cast<float>(far) / static_cast<float>(exact)) / scale * static_cast<float>(half - exact);
      place = std::min(half - 1, exact + static_cast<int64_t>(wide));
    }
    places.push_back(static_cast<int32_t>(distance > 0 ? half + place : place));
  }
  return places;
}

}  // namespace angel_ptm
