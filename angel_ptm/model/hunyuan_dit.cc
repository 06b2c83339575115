#include "angel_ptm/model/hunyuan_dit.h"

#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/model/linear_layers.h"

namespace angel_ptm {
namespace {

constexpr float kHunyuanEpsilon = 1e-6f;
constexpr int64_t kPoolHeads = 8;
constexpr double kRopeBase = 10000;
constexpr int64_t kBaseSide = 64;  // side of the latents of the first training, 512 pixels

// Units that are frozen if there is a branch: the whole base, and the embedders of the branch.
constexpr const char* kFrozenByControl[] = {
    "text", "pooler",       "condition",      "embedding",         "blocks.*",
    "head", "control.text", "control.pooler", "control.condition", "control.embedding"};

// Glorot & Bengio 2010.
InitialValues Xavier(int64_t out, int64_t in) {
  return InitialValues::Normal(static_cast<float>(std::sqrt(2.0 / static_cast<double>(out + in))));
}

class HunyuanDit {
 public:
  HunyuanDit(std::string name, const HunyuanDitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table)
      : shape_(shape), batch_(batch), builder_(std::move(name), std::move(table)) {
    std::vector<std::string> frozen = shape.freeze;
    if (shape.control) frozen.insert(frozen.end(), std::begin(kFrozenByControl), std::end(kFrozenByControl));
    builder_.Freeze(std::move(frozen));
  }

  // Appends everything up to the prediction and returns the prediction. `scaled`: what a branch adds is multiplied by
  // the input "control_scale".
  TensorId Body(bool scaled = false);
  void Loss(TensorId prediction);
  void MarkOutput(TensorId t, const char* name) {
    builder_.graph().tensors[t].tensor_class = TensorClass::kOutput;
    builder_.graph().tensors[t].name = name;
  }
  GraphBuilder& builder() { return builder_; }

 private:
  // The model itself (the base), or its branch.
  struct Net {
    std::string units, names;  // prefix of unit names; prefix of op and parameter names
    TensorId text = kNone, time = kNone;
  };

  void AddUnit(const std::string& name) { unit_ = builder_.AddUnit(net_->units + name); }
  // A parameter that is a single tensor in diffusers, possibly with another shape of the same number of elements.
  TensorId Parameter(const std::string& name, Shape shape, InitialValues initial, Shape exported = {}) {
    const bool decays = shape.rank() > 1;
    if (exported.rank() == 0) exported = shape;
    return builder_.AddParameter(unit_, name, std::move(shape), initial, decays, {{name, 0, std::move(exported)}});
  }
  // The input of that name, which is added on first use and shared by all its readers.
  TensorId Input(const char* name, Shape shape, DType dtype = DType::kFloat32) {
    const auto [it, added] = inputs_.emplace(name, kNone);
    if (!added) return it->second;
    const TensorId input = builder_.AddInput(name, std::move(shape), dtype);
    const bool narrow = dtype == DType::kFloat32 && builder_.graph().table->compute_type() != DType::kFloat32;
    return it->second = narrow ? builder_.Append(OpKind::kCast, name, {input})[0] : input;
  }
  int64_t Columns(TensorId x) { return builder_.graph().tensors[x].shape[1]; }

  TensorId Plus(const std::string& name, TensorId x, TensorId rows) {
    return builder_.Append(OpKind::kAddRows, name, {x, rows})[0];
  }
  TensorId Silu(const std::string& name, TensorId x) { return builder_.Append(OpKind::kSilu, name, {x})[0]; }
  TensorId Concat(const std::string& name, TensorId a, TensorId b, OpAttrs attrs = {}) {
    return builder_.Append(OpKind::kConcat, name, {a, b}, attrs)[0];
  }
  // Several linear layers of `out` columns each as one product plus biases.
  TensorId Linears(const std::string& prefix, const std::vector<std::string>& names, TensorId x, int64_t out,
                   InitialValues initial) {
    return AppendLinears(builder_, unit_, prefix, names, x, out, initial);
  }
  TensorId Linear(const std::string& name, TensorId x, int64_t out) {
    return Linears("", {name}, x, out, Xavier(out, Columns(x)));
  }
  TensorId ZeroLinear(const std::string& name, TensorId x, int64_t out) {
    return Linears("", {name}, x, out, InitialValues::Normal(0));
  }
  // Two layers with an activation between them.
  TensorId Mlp(const std::string& first, const std::string& second, OpKind activation, TensorId x, int64_t inner,
               int64_t out) {
    return Linear(second, builder_.Append(activation, first + ".activated", {Linear(first, x, inner)})[0], out);
  }
  // LayerNorm with the model's epsilon, shifted by all columns of `shift` unless that is kNone.
  TensorId Norm(const std::string& name, TensorId x, TensorId shift = kNone) {
    const int64_t h = Columns(x);
    const TensorId weight = Parameter(name + ".weight", {h}, InitialValues::Ones());
    const TensorId bias = Parameter(name + ".bias", {h}, InitialValues::Normal(0));
    return builder_.Append(OpKind::kLayerNorm, name, {x, weight, bias, shift},
                           {.epsilon = kHunyuanEpsilon, .column_end = shift == kNone ? 0 : h})[0];
  }
  // The heads in the hidden_size columns from `column` on, normed and, with cos_sin, rotated.
  TensorId Heads(const std::string& name, TensorId x, int64_t column, TensorId cos_sin) {
    const TensorId weight = Parameter(name + ".weight", {shape_.head_dim()}, InitialValues::Ones());
    const TensorId bias = Parameter(name + ".bias", {shape_.head_dim()}, InitialValues::Normal(0));
    return builder_.Append(OpKind::kNormRope, name, {x, weight, bias, cos_sin},
                           {.epsilon = kHunyuanEpsilon,
                            .head_dim = shape_.head_dim(),
                            .layer_norm = true,
                            .interleaved = true,
                            .column_begin = column,
                            .column_end = column + shape_.hidden_size})[0];
  }
  // Full attention of the `sequence` queries of each sample to its `keys` keys. Values are the columns of v from
  // `column` on.
  TensorId Attend(const std::string& name, TensorId q, TensorId k, TensorId v, int64_t column, int64_t sequence,
                  int64_t keys, int64_t heads, int64_t width) {
    return builder_.Append(OpKind::kAttention, name, {q, k, v, kNone},
                           {.rows = batch_,
                            .sequence = sequence,
                            .key_sequence = keys,
                            .q_heads = heads,
                            .kv_heads = heads,
                            .head_dim = width / heads,
                            .column_begin = column,
                            .column_end = column + width})[0];
  }

  TensorId Text(TensorId t5);
  TensorId Pool(TensorId t5);
  TensorId Time(TensorId pooled);
  TensorId Embedded();
  TensorId SelfAttention(const std::string& name, TensorId x);
  TensorId CrossAttention(const std::string& name, TensorId x);
  TensorId Block(int64_t layer, TensorId x, TensorId skip);
  int BlockNumber(int64_t layer) const;
  TensorId Controlled(int64_t layer, TensorId x, bool scaled);

  const HunyuanDitShape shape_;
  const int64_t batch_;
  GraphBuilder builder_;
  UnitId unit_ = kNone;  // of parameters
  TensorId cos_sin_ = kNone;
  std::map<std::string, TensorId> inputs_;
  Net base_{"", ""}, branch_{kControlUnits, kControlNames};
  Net* net_ = &base_;         // the net to which ops and parameters are being added
  TensorId control_ = kNone;  // the latest output of the branch's blocks
};

// The rows of all texts and of the padding, in the order given by the input "text_rows".
TensorId HunyuanDit::Text(TensorId t5) {
  const int64_t width = shape_.clip_hidden_size;
  const std::string& net = net_->names;
  AddUnit("text");
  const TensorId clip = Input("clip", {batch_ * shape_.clip_length, width});
  const TensorId rows = Input("text_rows", {batch_ * shape_.text_length()}, DType::kInt32);
  const TensorId projected = Mlp(net + "text_embedder.linear_1", net + "text_embedder.linear_2", OpKind::kSilu, t5,
                                 4 * shape_.t5_hidden_size, width);
  const TensorId padding =
      Parameter(net + "text_embedding_padding", {shape_.text_length(), width}, InitialValues::Normal(1));
  const int64_t texts = batch_ * shape_.text_length();
  const TensorId both = Concat(net + "texts", clip, projected, {.rows = 1, .sequence = texts});
  const TensorId table =
      Concat(net + "texts.padding", both, padding, {.rows = 1, .sequence = texts + shape_.text_length()});
  return builder_.Append(OpKind::kEmbedding, net + "text", {table, rows})[0];
}

// Attention pooling: one query, computed from the mean of the states, attends to the mean and all states.
TensorId HunyuanDit::Pool(TensorId t5) {
  const std::string name = net_->names + "time_extra_emb.pooler.";
  const int64_t width = shape_.t5_hidden_size, length = shape_.t5_length + 1;
  AddUnit("pooler");
  const TensorId mean =
      builder_.Append(OpKind::kMeanPool, name + "mean", {t5, kNone}, {.rows = batch_, .sequence = shape_.t5_length})[0];
  const TensorId positions =
      Parameter(name + "positional_embedding", {length, width},
                InitialValues::Normal(static_cast<float>(1 / std::sqrt(static_cast<double>(width)))));
  const TensorId states =
      Plus(name + "states", Concat(name + "all", mean, t5, {.rows = batch_, .sequence = length}), positions);
  const TensorId first = builder_.Append(OpKind::kSplit, name + "first", {states},
                                         {.rows = batch_, .sequence = length, .column_end = width})[0];
  const TensorId k = Linear(name + "k_proj", states, width), q = Linear(name + "q_proj", first, width);
  const TensorId v = Linear(name + "v_proj", states, width);
  const TensorId pooled = Attend(name + "attention", q, k, v, 0, /*sequence=*/1, length, kPoolHeads, width);
  return Linear(name + "c_proj", pooled, shape_.pooled_size);
}

// The SiLU of the sum of the time's embedding and that of the extra conditions, from which all shifts are computed.
TensorId HunyuanDit::Time(TensorId pooled) {
  const std::string name = net_->names + "time_extra_emb.";
  const int64_t h = shape_.hidden_size;
  AddUnit("condition");
  const TensorId features = Input("time_features", {batch_, kHunyuanFeatures});
  const TensorId time =
      Mlp(name + "timestep_embedder.linear_1", name + "timestep_embedder.linear_2", OpKind::kSilu, features, h, h);
  TensorId extra = pooled;
  if (shape_.size_and_style) {
    const TensorId sizes = Input("size_features", {batch_, kHunyuanSizes * kHunyuanFeatures});
    const TensorId style = Input("style", {batch_}, DType::kInt32);
    const TensorId table = Parameter(name + "style_embedder.weight", {1, h}, InitialValues::Normal(1));
    extra = Concat(name + "sizes", extra, sizes);
    extra = Concat(name + "extra", extra, builder_.Append(OpKind::kEmbedding, name + "style", {table, style})[0]);
  }
  extra = Mlp(name + "extra_embedder.linear_1", name + "extra_embedder.linear_2", OpKind::kSilu, extra, 4 * h, h);
  return Silu(net_->names + "time", Plus(name + "sum", time, extra));
}

TensorId HunyuanDit::SelfAttention(const std::string& name, TensorId x) {
  const int64_t h = shape_.hidden_size;
  const TensorId qkv = Linears(name, {"to_q", "to_k", "to_v"}, x, h, Xavier(h, h));
  const TensorId q = Heads(name + "norm_q", qkv, 0, cos_sin_), k = Heads(name + "norm_k", qkv, h, cos_sin_);
  const TensorId o =
      Attend(name + "attention", q, k, qkv, 2 * h, shape_.tokens(), shape_.tokens(), shape_.num_attention_heads, h);
  return Linear(name + "to_out.0", o, h);
}

TensorId HunyuanDit::CrossAttention(const std::string& name, TensorId x) {
  const int64_t h = shape_.hidden_size;
  const TensorId queries = Linear(name + "to_q", x, h);
  const TensorId kv = Linears(name, {"to_k", "to_v"}, net_->text, h, Xavier(h, shape_.clip_hidden_size));
  const TensorId q = Heads(name + "norm_q", queries, 0, cos_sin_), k = Heads(name + "norm_k", kv, 0, kNone);
  const TensorId o =
      Attend(name + "attention", q, k, kv, h, shape_.tokens(), shape_.text_length(), shape_.num_attention_heads, h);
  return Linear(name + "to_out.0", o, h);
}

// The number of the layer's recomputation block, or kNone for blocks without gradients, which are not recomputed.
int HunyuanDit::BlockNumber(int64_t layer) const {
  if (!shape_.control || net_ == &branch_) return static_cast<int>(layer);
  return layer <= shape_.num_hidden_layers / 2 ? kNone : static_cast<int>(layer - 2);
}

TensorId HunyuanDit::Block(int64_t layer, TensorId x, TensorId skip) {
  const int64_t h = shape_.hidden_size;
  const std::string name = absl::StrCat(net_->names, "blocks.", layer, ".");
  builder_.SetBlock(BlockNumber(layer));
  AddUnit(absl::StrCat("blocks.", layer));
  if (skip != kNone) x = Linear(name + "skip_linear", Norm(name + "skip_norm", Concat(name + "skip", x, skip)), h);
  const TensorId shift = ZeroLinear(name + "norm1.linear", net_->time, h);
  x = Plus(name + "attended", x, SelfAttention(name + "attn1.", Norm(name + "norm1.norm", x, shift)));
  x = Plus(name + "cross_attended", x, CrossAttention(name + "attn2.", Norm(name + "norm2", x)));
  const TensorId mlp = Mlp(name + "ff.net.0.proj", name + "ff.net.2", OpKind::kGelu, Norm(name + "norm3", x),
                           shape_.intermediate_size, h);
  x = Plus(name + "out", x, mlp);
  builder_.SetBlock(kNone);
  return x;
}

// Computes the inputs of the net's blocks: texts and time, which are stored in *net_, and the input of the first block,
// which is returned.
TensorId HunyuanDit::Embedded() {
  const int64_t h = shape_.hidden_size, p = shape_.patch_size;
  const Shape patches = {batch_ * shape_.tokens(), shape_.patch_features()};
  const std::string& net = net_->names;
  const TensorId noisy = Input("noisy", patches);
  if (cos_sin_ == kNone) {
    cos_sin_ = builder_.AddInput("cos_sin", {shape_.tokens(), shape_.head_dim() / 2, 2}, DType::kFloat32);
  }
  const TensorId t5 = Input("t5", {batch_ * shape_.t5_length, shape_.t5_hidden_size});
  net_->text = Text(t5);
  net_->time = Time(Pool(t5));
  AddUnit("embedding");
  const TensorId weight = Parameter(net + "pos_embed.proj.weight", {h, shape_.patch_features()},
                                    Xavier(h, shape_.patch_features()), {h, shape_.channels, p, p});
  const TensorId bias = Parameter(net + "pos_embed.proj.bias", {h}, InitialValues::Normal(0));
  const auto embed = [&](const std::string& name, TensorId x) {
    return Plus(net + name,
                builder_.Append(OpKind::kMatmul, net + name + ".patches", {x, weight}, {.trans_b = true})[0], bias);
  };
  const TensorId x = embed("embedded", noisy);
  if (net_ == &base_) return x;
  const TensorId condition = embed("condition", Input("condition", patches));
  AddUnit("input");
  return Plus(net + "conditioned", x, ZeroLinear(net + "input_block", condition, h));
}

// Returns a long skip plus what the branch adds to it. The branch's block directly follows the base's block, so that
// only the sum is kept for the second half, not both operands.
TensorId HunyuanDit::Controlled(int64_t layer, TensorId x, bool scaled) {
  net_ = &branch_;
  if (control_ == kNone) control_ = Embedded();
  control_ = Block(layer, control_, kNone);
  AddUnit(absl::StrCat("projections.", layer));
  const std::string name = absl::StrCat(net_->names, "controlnet_blocks.", layer);
  const TensorId added = ZeroLinear(name, control_, shape_.hidden_size);
  net_ = &base_;
  if (!scaled) return Plus(name + ".skip", x, added);
  const TensorId scale = Input("control_scale", {1, shape_.hidden_size});
  return builder_.Append(OpKind::kGatedAdd, name + ".skip", {x, added, scale}, {.column_end = shape_.hidden_size})[0];
}

TensorId HunyuanDit::Body(bool scaled) {
  const int64_t h = shape_.hidden_size, p = shape_.patch_size, half = shape_.num_hidden_layers / 2;
  TensorId x = Embedded();
  std::vector<TensorId> skips;
  for (int64_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    TensorId skip = kNone;
    if (layer > half) {
      skip = skips.back();
      skips.pop_back();
    }
    x = Block(layer, x, skip);
    if (layer < shape_.skips()) skips.push_back(shape_.control ? Controlled(layer, x, scaled) : x);
  }
  AddUnit("head");
  const TensorId modulation = ZeroLinear("norm_out.linear", net_->time, 2 * h);
  x = builder_.Append(OpKind::kLayerNorm, "norm_out", {x, kNone, kNone, modulation},
                      {.epsilon = kHunyuanEpsilon, .scale_first = true, .column_end = 2 * h})[0];
  return ZeroLinear("proj_out", x, shape_.out_channels() * p * p);
}

void HunyuanDit::Loss(TensorId prediction) {
  const int64_t pixels = batch_ * shape_.height * shape_.width;
  if (shape_.variance_in_loss) {
    APTM_CHECK(shape_.learn_sigma);
    return MarkOutput(AppendHybridLoss(builder_, prediction, batch_, pixels), "sample_loss");
  }
  if (shape_.learn_sigma) {
    prediction =
        builder_.Append(OpKind::kSplit, "mean", {prediction}, {.rows = pixels, .column_end = shape_.channels})[0];
  }
  MarkOutput(AppendDenoisingLoss(builder_, prediction, batch_), "sample_loss");
}

}  // namespace

std::shared_ptr<const ParameterTable> HunyuanDitParameters(const HunyuanDitShape& shape,
                                                           std::vector<StateSpec> states) {
  HunyuanDit model("parameters", shape, /*batch=*/1, /*table=*/nullptr);
  model.Body();
  ParameterTable table = *model.builder().Build().table;
  table.states = std::move(states);
  return std::make_shared<const ParameterTable>(std::move(table));
}

bool IsOfControl(const Unit& unit) { return unit.name.starts_with(kControlUnits); }

UnitId HunyuanControlSource(const ParameterTable& table, UnitId unit) {
  if (!IsOfControl(table.units[unit])) return kNone;
  const std::string name = table.units[unit].name.substr(std::string_view(kControlUnits).size());
  for (UnitId u = 0; u < static_cast<UnitId>(table.units.size()); ++u) {
    if (table.units[u].name == name) return u;
  }
  return kNone;
}

Graph BuildHunyuanDitForward(const HunyuanDitShape& shape, int64_t batch, std::shared_ptr<const ParameterTable> table,
                             StateId weights) {
  HunyuanDit model("forward", shape, batch, std::move(table));
  model.builder().ReadParametersFrom(weights);
  model.MarkOutput(model.Body(/*scaled=*/shape.control), "prediction");
  return model.builder().BuildForward();
}

Graph BuildHunyuanDitEvaluation(const HunyuanDitShape& shape, int64_t batch,
                                std::shared_ptr<const ParameterTable> table, StateId weights) {
  HunyuanDit model("evaluation", shape, batch, std::move(table));
  model.builder().ReadParametersFrom(weights);
  model.Loss(model.Body());
  return model.builder().BuildForward();
}

Graph BuildHunyuanDitTraining(const HunyuanDitShape& shape, int64_t batch, const std::vector<bool>& recompute,
                              std::shared_ptr<const ParameterTable> table) {
  APTM_CHECK(static_cast<int64_t>(recompute.size()) == shape.recomputable_blocks());
  HunyuanDit model("training", shape, batch, std::move(table));
  model.Loss(model.Body());
  AppendBackward(model.builder(), recompute);
  return model.builder().Build();
}

void HunyuanRopeTable(const HunyuanDitShape& shape, std::span<float> cos_sin) {
  const int64_t rows = shape.grid_height(), columns = shape.grid_width(), quarter = shape.head_dim() / 4;
  APTM_CHECK(shape.head_dim() % 4 == 0 && static_cast<int64_t>(cos_sin.size()) == rows * columns * shape.head_dim());
  const auto side = static_cast<double>(kBaseSide / shape.patch_size), h = static_cast<double>(rows);
  const auto w = static_cast<double>(columns);
  // nearbyint rounds half-way cases to even, like Python.
  const double fitted_h = rows > columns ? side : std::nearbyint(side / w * h);
  const double fitted_w = rows > columns ? std::nearbyint(side / h * w) : side;
  const double top = std::nearbyint((side - fitted_h) / 2), left = std::nearbyint((side - fitted_w) / 2);
  int64_t at = 0;
  for (int64_t token = 0; token < rows * columns; ++token) {
    const double row = top + static_cast<double>(token / columns) * fitted_h / h;
    const double column = left + static_cast<double>(token % columns) * fitted_w / w;
    for (int64_t pair = 0; pair < 2 * quarter; ++pair) {
      const double frequency = std::pow(kRopeBase, -static_cast<double>(pair % quarter) / static_cast<double>(quarter));
      const double angle = (pair < quarter ? column : row) * frequency;
      cos_sin[at++] = static_cast<float>(std::cos(angle));
      cos_sin[at++] = static_cast<float>(std::sin(angle));
    }
  }
}

void HunyuanTextRows(const HunyuanDitShape& shape, int64_t batch, int64_t row, std::span<const int32_t> keep,
                     std::span<int32_t> text_rows) {
  const int64_t length = shape.text_length(), clips = batch * shape.clip_length;
  APTM_CHECK(static_cast<int64_t>(keep.size()) == length && text_rows.size() == keep.size());
  for (int64_t i = 0; i < length; ++i) {
    const int64_t of_text =
        i < shape.clip_length ? row * shape.clip_length + i : clips + row * shape.t5_length + i - shape.clip_length;
    text_rows[i] = static_cast<int32_t>(keep[i] != 0 ? of_text : batch * length + i);
  }
}

}  // namespace angel_ptm
