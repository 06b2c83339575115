#include "angel_ptm/model/bert_encoder.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/model/linear_layers.h"

namespace angel_ptm {
namespace {

constexpr float kInitialDeviation = 0.02f;

class BertEncoder {
 public:
  BertEncoder(const BertShape& shape, int64_t batch, int64_t length, DType compute)
      : shape_(shape), batch_(batch), length_(length), builder_("bert_encoder") {
    APTM_CHECK(length <= shape.max_position_embeddings, length, " tokens");
    builder_.Freeze({"*"});
    builder_.ComputeIn(compute);
  }

  Graph Build() {
    key_counts_ = builder_.AddInput("key_counts", {batch_}, DType::kInt32);
    TensorId x = Embed();
    for (int64_t layer = 0; layer < shape_.num_hidden_layers; ++layer) x = Layer(layer, x);
    builder_.graph().tensors[x].tensor_class = TensorClass::kOutput;
    builder_.graph().tensors[x].name = "states";
    return builder_.BuildForward();
  }

 private:
  TensorId Parameter(const std::string& name, const Shape& shape, InitialValues initial) {
    return builder_.AddParameter(unit_, name, shape, initial, shape.rank() > 1, {{name, 0, shape}});
  }
  TensorId Linear(const std::string& name, TensorId x, int64_t out) {
    return AppendLinears(builder_, unit_, "", {name}, x, out, InitialValues::Normal(kInitialDeviation));
  }
  TensorId Plus(const std::string& name, TensorId x, TensorId rows) {
    return builder_.Append(OpKind::kAddRows, name, {x, rows})[0];
  }
  TensorId Norm(const std::string& name, TensorId x) {
    const TensorId weight = Parameter(name + ".weight", {shape_.hidden_size}, InitialValues::Ones());
    const TensorId bias = Parameter(name + ".bias", {shape_.hidden_size}, InitialValues::Normal(0));
    return builder_.Append(OpKind::kLayerNorm, name, {x, weight, bias, kNone}, {.epsilon = shape_.layer_norm_eps})[0];
  }
  TensorId Rows(const std::string& table, const std::string& input, int64_t rows) {
    const TensorId weight = Parameter(table, {rows, shape_.hidden_size}, InitialValues::Normal(kInitialDeviation));
    const TensorId of = builder_.AddInput(input, {batch_ * length_}, DType::kInt32);
    return builder_.Append(OpKind::kEmbedding, table, {weight, of})[0];
  }
  TensorId Embed();
  TensorId Layer(int64_t layer, TensorId x);

  const BertShape shape_;
  const int64_t batch_, length_;
  GraphBuilder builder_;
  UnitId unit_ = kNone;  // of parameters
  TensorId key_counts_ = kNone;
};

TensorId BertEncoder::Embed() {
  const std::string name = "embeddings.";
  unit_ = builder_.AddUnit("embeddings");
  TensorId x = Rows(name + "word_embeddings.weight", "tokens", shape_.vocab_size);
  x = Plus(name + "placed", x, Rows(name + "position_embeddings.weight", "positions", shape_.max_position_embeddings));
  x = Plus(name + "typed", x, Rows(name + "token_type_embeddings.weight", "token_types", shape_.type_vocab_size));
  return Norm(name + "LayerNorm", x);
}

// Post-norm: norms follow the residual sums.
TensorId BertEncoder::Layer(int64_t layer, TensorId x) {
  const int64_t h = shape_.hidden_size, heads = shape_.num_attention_heads;
  unit_ = builder_.AddUnit(absl::StrCat("layers.", layer));
  const std::string name = absl::StrCat("encoder.layer.", layer, "."), self = name + "attention.self.";
  const TensorId q = Linear(self + "query", x, h), k = Linear(self + "key", x, h), v = Linear(self + "value", x, h);
  const TensorId attended = builder_.Append(OpKind::kAttention, self + "attention", {q, k, v, key_counts_},
                                            {.rows = batch_,
                                             .sequence = length_,
                                             .key_sequence = length_,
                                             .q_heads = heads,
                                             .kv_heads = heads,
                                             .head_dim = h / heads,
                                             .column_end = h})[0];
  const TensorId projected = Linear(name + "attention.output.dense", attended, h);
  x = Norm(name + "attention.output.LayerNorm", Plus(name + "attended", x, projected));
  const TensorId inner = Linear(name + "intermediate.dense", x, shape_.intermediate_size);
  const TensorId activated = builder_.Append(OpKind::kGelu, name + "intermediate", {inner}, {.erf = true})[0];
  const TensorId out = Linear(name + "output.dense", activated, h);
  return Norm(name + "output.LayerNorm", Plus(name + "out", x, out));
}

}  // namespace

Graph BuildBertEncoder(const BertShape& shape, int64_t batch, int64_t length, DType compute) {
  return BertEncoder(shape, batch, length, compute).Build();
}

}  // namespace angel_ptm
