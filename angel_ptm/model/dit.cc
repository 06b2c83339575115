#include "angel_ptm/model/dit.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

class DiffusionTransformer {
 public:
  DiffusionTransformer(std::string name, const DitShape& shape, int64_t batch,
                       std::shared_ptr<const ParameterTable> table)
      : shape_(shape), batch_(batch), builder_(std::move(name), std::move(table)) {
    builder_.Freeze(shape.freeze);
  }

  // Appends everything up to the prediction and returns the prediction.
  TensorId Body();
  void Loss(TensorId prediction);
  void MarkOutput(TensorId t, const char* name) {
    builder_.graph().tensors[t].tensor_class = TensorClass::kOutput;
    builder_.graph().tensors[t].name = name;
  }

  GraphBuilder& builder() { return builder_; }

 private:
  TensorId Weight(UnitId unit, const std::string& name, int64_t out, int64_t in) {
    return builder_.AddParameter(unit, name, {out, in}, InitialValues::Normal(shape_.initializer_range), true, {});
  }
  // Parameters of layers that start as the identity or without effect (adaLN-Zero).
  TensorId Zeros(UnitId unit, const std::string& name, Shape shape) {
    return builder_.AddParameter(unit, name, std::move(shape), InitialValues::Normal(0), false, {});
  }
  TensorId Ones(UnitId unit, const std::string& name, int64_t size) {
    return builder_.AddParameter(unit, name, {size}, InitialValues::Ones(), false, {});
  }
  TensorId Input(std::string name, Shape shape) {
    const TensorId input = builder_.AddInput(name, std::move(shape), DType::kFloat32);
    if (builder_.graph().table->compute_type() == DType::kFloat32) return input;
    return builder_.Append(OpKind::kCast, name, {input})[0];
  }
  TensorId Linear(const std::string& name, TensorId x, TensorId weight) {
    return builder_.Append(OpKind::kMatmul, name, {x, weight}, {.trans_b = true})[0];
  }
  TensorId Plus(const std::string& name, TensorId x, TensorId rows) {
    return builder_.Append(OpKind::kAddRows, name, {x, rows})[0];
  }
  TensorId Silu(const std::string& name, TensorId x) { return builder_.Append(OpKind::kSilu, name, {x})[0]; }
  // A linear layer whose weight and bias start as zeros.
  TensorId ZeroLinear(UnitId unit, const std::string& name, TensorId x, int64_t out) {
    const int64_t in = builder_.graph().tensors[x].shape[1];
    const TensorId weight = Zeros(unit, name + ".weight", {out, in});
    return Plus(name + ".sum", Linear(name, x, weight), Zeros(unit, name + ".bias", {out}));
  }
  TensorId AffineNorm(UnitId unit, const std::string& name, TensorId x) {
    const int64_t h = builder_.graph().tensors[x].shape[1];
    const TensorId weight = Ones(unit, name + ".weight", h);
    const TensorId bias = Zeros(unit, name + ".bias", {h});
    return builder_.Append(OpKind::kLayerNorm, name, {x, weight, bias, kNone}, {.epsilon = shape_.norm_eps})[0];
  }
  // Takes shift and scale from the columns of `modulation` from `column` on.
  TensorId ModulatedNorm(const std::string& name, TensorId x, TensorId modulation, int64_t column) {
    const int64_t h = shape_.hidden_size;
    return builder_.Append(OpKind::kLayerNorm, name, {x, kNone, kNone, modulation},
                           {.epsilon = shape_.norm_eps, .column_begin = column, .column_end = column + 2 * h})[0];
  }
  TensorId Gated(const std::string& name, TensorId x, TensorId delta, TensorId modulation, int64_t column) {
    return builder_.Append(OpKind::kGatedAdd, name, {x, delta, modulation},
                           {.column_begin = column, .column_end = column + shape_.hidden_size})[0];
  }
  TensorId Mlp(UnitId unit, const std::string& name, TensorId x, int64_t inner) {
    const int64_t h = builder_.graph().tensors[x].shape[1];
    const TensorId up = Weight(unit, name + "up_proj", inner, h), down = Weight(unit, name + "down_proj", h, inner);
    return Linear(name + "down", builder_.Append(OpKind::kGelu, name + "gelu", {Linear(name + "up", x, up)})[0], down);
  }

  // The heads in columns [column, column + width) of x, normed and, with cos_sin, rotated.
  TensorId Heads(UnitId unit, const std::string& name, TensorId x, int64_t column, int64_t width, int64_t heads,
                 TensorId cos_sin) {
    const TensorId weight = Ones(unit, name + ".weight", width / heads);
    return builder_.Append(OpKind::kNormRope, name, {x, weight, kNone, cos_sin},
                           {.epsilon = shape_.norm_eps,
                            .head_dim = width / heads,
                            .column_begin = column,
                            .column_end = column + width})[0];
  }
  struct Keys {
    TensorId k, v;         // v is some columns of a wider matrix
    int64_t value_column;  // first column of v
    int64_t sequence;      // keys per row
    TensorId counts;       // or kNone
  };
  // Attention of queries with a total width of `width`.
  TensorId Attend(const std::string& name, TensorId q, int64_t sequence, const Keys& keys, int64_t width,
                  int64_t heads) {
    return builder_.Append(OpKind::kAttention, name, {q, keys.k, keys.v, keys.counts},
                           {.rows = batch_,
                            .sequence = sequence,
                            .key_sequence = keys.sequence,
                            .q_heads = heads,
                            .kv_heads = heads,
                            .head_dim = width / heads,
                            .column_begin = keys.value_column,
                            .column_end = keys.value_column + width})[0];
  }
  TensorId SelfAttention(UnitId unit, const std::string& name, TensorId x, int64_t sequence, int64_t heads,
                         TensorId cos_sin, TensorId counts);
  TensorId CrossAttention(UnitId unit, const std::string& name, TensorId x);

  void Text();
  TensorId Condition();
  TensorId Layer(int64_t layer, TensorId x, TensorId condition);

  const DitShape shape_;
  const int64_t batch_;
  GraphBuilder builder_;
  TensorId cos_sin_ = kNone;
  TensorId text_ = kNone, token_counts_ = kNone, pooled_ = kNone;  // of captions
};

TensorId DiffusionTransformer::SelfAttention(UnitId unit, const std::string& name, TensorId x, int64_t sequence,
                                             int64_t heads, TensorId cos_sin, TensorId counts) {
  const int64_t h = builder_.graph().tensors[x].shape[1];
  const TensorId qkv = Linear(name + "qkv", x, Weight(unit, name + "qkv_proj", 3 * h, h));
  const TensorId q = Heads(unit, name + "q_norm", qkv, 0, h, heads, cos_sin);
  const TensorId k = Heads(unit, name + "k_norm", qkv, h, h, heads, cos_sin);
  const TensorId o = Attend(name + "attention", q, sequence, {k, qkv, 2 * h, sequence, counts}, h, heads);
  return Linear(name + "o", o, Weight(unit, name + "o_proj", h, h));
}

TensorId DiffusionTransformer::CrossAttention(UnitId unit, const std::string& name, TensorId x) {
  const int64_t h = shape_.hidden_size, heads = shape_.num_attention_heads;
  const TensorId queries = Linear(name + "q", x, Weight(unit, name + "q_proj", h, h));
  const TensorId kv = Linear(name + "kv", text_, Weight(unit, name + "kv_proj", 2 * h, shape_.text_hidden_size));
  const TensorId q = Heads(unit, name + "q_norm", queries, 0, h, heads, kNone);
  const TensorId k = Heads(unit, name + "k_norm", kv, 0, h, heads, kNone);
  const TensorId o =
      Attend(name + "attention", q, shape_.tokens(), {k, kv, h, shape_.text_length, token_counts_}, h, heads);
  return Linear(name + "o", o, Weight(unit, name + "o_proj", h, h));
}

void DiffusionTransformer::Text() {
  const int64_t h = shape_.text_hidden_size, length = shape_.text_length;
  const TensorId tokens = builder_.AddInput("tokens", {batch_ * length}, DType::kInt32);
  token_counts_ = builder_.AddInput("token_counts", {batch_}, DType::kInt32);
  const UnitId embedding = builder_.AddUnit("text.embedding");
  const TensorId table = Weight(embedding, "text.embed_tokens", shape_.text_vocab_size + 1, h);
  const TensorId positions = Weight(embedding, "text.positions", length, h);
  TensorId x = builder_.Append(OpKind::kEmbedding, "text.embedding", {table, tokens})[0];
  x = Plus("text.embedded", x, positions);
  for (int64_t i = 0; i < shape_.text_num_hidden_layers; ++i) {
    const std::string name = absl::StrCat("text.layers.", i, ".");
    builder_.SetBlock(static_cast<int>(i));
    const UnitId unit = builder_.AddUnit(absl::StrCat("text.layers.", i));
    const TensorId in = AffineNorm(unit, name + "attention_norm", x);
    x = Plus(
        name + "attended", x,
        SelfAttention(unit, name + "self_attn.", in, length, shape_.text_num_attention_heads, kNone, token_counts_));
    x = Plus(name + "out", x, Mlp(unit, name + "mlp.", AffineNorm(unit, name + "mlp_norm", x), 4 * h));
  }
  builder_.SetBlock(kNone);
  const UnitId head = builder_.AddUnit("text.head");
  text_ = AffineNorm(head, "text.norm", x);
  pooled_ = builder_.Append(OpKind::kMeanPool, "text.pooled", {text_, token_counts_},
                            {.rows = batch_, .sequence = length})[0];
}

// The SiLU of the sum of the time's and the condition's embedding, from which all modulations are computed.
TensorId DiffusionTransformer::Condition() {
  const int64_t h = shape_.hidden_size;
  const UnitId unit = builder_.AddUnit("condition");
  const TensorId features = Input("time_features", {batch_, kTimeFeatures});
  TensorId x = Linear("time.in", features, Weight(unit, "time.in_proj", h, kTimeFeatures));
  x = Silu("time.silu", Plus("time.biased", x, Zeros(unit, "time.bias", {h})));
  x = Linear("time.out", x, Weight(unit, "time.out_proj", h, h));
  if (shape_.reads_captions()) {
    x = Plus("condition.sum", x,
             Linear("condition.text", pooled_, Weight(unit, "text_proj", h, shape_.text_hidden_size)));
  } else if (shape_.reads_classes()) {
    const TensorId table = Weight(unit, "class_embedding", shape_.class_count + 1, h);
    const TensorId ids = builder_.AddInput("class_ids", {batch_}, DType::kInt32);
    x = Plus("condition.sum", x, builder_.Append(OpKind::kEmbedding, "condition.class", {table, ids})[0]);
  }
  return Silu("condition", x);
}

TensorId DiffusionTransformer::Layer(int64_t layer, TensorId x, TensorId condition) {
  const int64_t h = shape_.hidden_size;
  const std::string name = absl::StrCat("layers.", layer, ".");
  builder_.SetBlock(static_cast<int>(shape_.text_num_hidden_layers + layer));
  const UnitId unit = builder_.AddUnit(absl::StrCat("layers.", layer));
  // Shift, scale and gate of attention, then of the MLP.
  const TensorId modulation = ZeroLinear(unit, name + "modulation", condition, 6 * h);
  const TensorId attention_in = ModulatedNorm(name + "attention_norm", x, modulation, 0);
  x = Gated(
      name + "attended", x,
      SelfAttention(unit, name + "self_attn.", attention_in, shape_.tokens(), shape_.num_attention_heads, cos_sin_,
                    /*counts=*/kNone),
      modulation, 2 * h);
  if (shape_.reads_captions()) {
    const TensorId cross_in = AffineNorm(unit, name + "cross_norm", x);
    x = Plus(name + "cross_attended", x, CrossAttention(unit, name + "cross_attn.", cross_in));
  }
  const TensorId mlp_in = ModulatedNorm(name + "mlp_norm", x, modulation, 3 * h);
  x = Gated(name + "out", x, Mlp(unit, name + "mlp.", mlp_in, shape_.intermediate_size), modulation, 5 * h);
  builder_.SetBlock(kNone);
  return x;
}

TensorId DiffusionTransformer::Body() {
  const int64_t h = shape_.hidden_size;
  const TensorId noisy = Input("noisy", {batch_ * shape_.tokens(), shape_.patch_features()});
  cos_sin_ = builder_.AddInput("cos_sin", {shape_.tokens(), shape_.head_dim() / 2, 2}, DType::kFloat32);
  if (shape_.reads_captions()) Text();
  const TensorId condition = Condition();
  const UnitId embedding = builder_.AddUnit("embedding");
  TensorId x = Linear("patches", noisy, Weight(embedding, "patch_proj", h, shape_.patch_features()));
  x = Plus("embedded", x, Zeros(embedding, "patch_bias", {h}));
  for (int64_t layer = 0; layer < shape_.num_hidden_layers; ++layer) x = Layer(layer, x, condition);
  const UnitId head = builder_.AddUnit("head");
  const TensorId modulation = ZeroLinear(head, "head.modulation", condition, 2 * h);
  x = ModulatedNorm("head.norm", x, modulation, 0);
  return ZeroLinear(head, "head.out", x, shape_.out_channels() * shape_.patch_size * shape_.patch_size);
}

void DiffusionTransformer::Loss(TensorId prediction) {
  MarkOutput(shape_.learn_variance ? AppendHybridLoss(builder_, prediction, batch_, batch_ * shape_.tokens())
                                   : AppendDenoisingLoss(builder_, prediction, batch_),
             "sample_loss");
}

}  // namespace

std::shared_ptr<const ParameterTable> DitParameters(const DitShape& shape, std::vector<StateSpec> states) {
  DiffusionTransformer model("parameters", shape, /*batch=*/1, /*table=*/nullptr);
  model.Body();
  ParameterTable table = *model.builder().Build().table;
  table.states = std::move(states);
  return std::make_shared<const ParameterTable>(std::move(table));
}

Graph BuildDitForward(const DitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table,
                      StateId weights) {
  DiffusionTransformer model("forward", shape, batch, std::move(table));
  model.builder().ReadParametersFrom(weights);
  model.MarkOutput(model.Body(), "prediction");
  return model.builder().BuildForward();
}

Graph BuildDitEvaluation(const DitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table,
                         StateId weights) {
  DiffusionTransformer model("evaluation", shape, batch, std::move(table));
  model.builder().ReadParametersFrom(weights);
  model.Loss(model.Body());
  return model.builder().BuildForward();
}

Graph BuildDitTraining(const DitShape& shape, int64_t batch, const std::vector<bool>& recompute,
                       std::shared_ptr<const ParameterTable> table) {
  APTM_CHECK(static_cast<int64_t>(recompute.size()) == shape.blocks());
  DiffusionTransformer model("training", shape, batch, std::move(table));
  model.Loss(model.Body());
  AppendBackward(model.builder(), recompute);
  return model.builder().Build();
}

}  // namespace angel_ptm
