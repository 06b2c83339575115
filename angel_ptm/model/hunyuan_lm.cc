#include "angel_ptm/model/hunyuan_lm.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {
namespace {

// The two tensors of the residual stream between sublayers: its value is x + delta, added by the next norm.
struct Residual {
  TensorId x = kNone, delta = kNone;
};

class LanguageModel {
 public:
  LanguageModel(std::string name, const HunyuanLmShape& shape, const HunyuanLmBatch& batch, bool decoding,
                std::shared_ptr<const ParameterTable> table)
      : shape_(shape), batch_(batch), decoding_(decoding), builder_(std::move(name), std::move(table)) {
    builder_.Freeze(shape.freeze);
    builder_.SplitExperts(shape.expert_degree);
  }

  // Makes routers accumulate the loads of experts over a step. Call before Body.
  void SumLoads() { sums_loads_ = true; }
  void Inputs(bool with_targets) {
    const int64_t t = decoding_ ? batch_.rows : batch_.rows * batch_.sequence;
    tokens_ = builder_.AddInput("tokens", {t}, DType::kInt32);
    positions_ = builder_.AddInput("positions", {t}, DType::kInt32);
    if (shape_.expert_degree > 1) {
      builder_.graph().first_expert = builder_.AddInput("first_expert", {1}, DType::kInt32);
      builder_.graph().experts_of_rank = shape_.num_experts / shape_.expert_degree;
    }
    if (decoding_) {
      position_ = builder_.AddInput("position", {1}, DType::kInt32);
      return;
    }
    segment_start_ = builder_.AddInput("segment_start", {t}, DType::kInt32);
    if (!with_targets) return;
    targets_ = builder_.AddInput("targets", {t}, DType::kInt32);
    builder_.graph().loss_weight = builder_.AddInput("target_count", {1}, DType::kFloat32);
  }

  // Appends everything up to and including the final norm, and returns the norm's output.
  TensorId Body();
  void Loss(TensorId x);
  void Logits(TensorId x) {
    const TensorId logits =
        builder_.Append(OpKind::kMatmul, "logits", {x, output_table_}, {.trans_b = true, .fp32_result = true})[0];
    MarkOutput(logits);
  }

  GraphBuilder& builder() { return builder_; }

 private:
  TensorId Weight(UnitId unit, const std::string& name, int64_t out, int64_t in, std::vector<ExportedName> exported) {
    return builder_.AddParameter(unit, name, {out, in}, InitialValues::Normal(shape_.initializer_range), true,
                                 std::move(exported));
  }
  TensorId Norm(UnitId unit, const std::string& name, int64_t size) {
    return builder_.AddParameter(unit, name, {size}, InitialValues::Ones(), false,
                                 {{absl::StrCat("model.", name, ".weight"), 0, {size}}});
  }
  TensorId Linear(std::string_view name, TensorId x, TensorId weight) {
    return builder_.Append(OpKind::kMatmul, name, {x, weight}, {.trans_b = true})[0];
  }
  void MarkOutput(TensorId t) { builder_.graph().tensors[t].tensor_class = TensorClass::kOutput; }
  // Returns the norm of x + delta, and replaces the residual stream by the sum.
  TensorId AddNorm(std::string_view name, Residual& residual, TensorId weight) {
    const auto out = builder_.Append(OpKind::kAddRmsNorm, name, {residual.x, residual.delta, weight},
                                     {.epsilon = shape_.rms_norm_eps});
    if (residual.delta != kNone) residual = {out[0], kNone};
    return out[1];
  }

  TensorId GateUp(UnitId unit, const std::string& name, const std::string& exported) {
    const int64_t f = shape_.intermediate_size, h = shape_.hidden_size;
    return Weight(unit, name + "gate_up_proj", 2 * f, h,
                  {{exported + "gate_proj.weight", 0, {f, h}}, {exported + "up_proj.weight", f * h, {f, h}}});
  }
  TensorId Down(UnitId unit, const std::string& name, const std::string& exported) {
    const int64_t f = shape_.intermediate_size, h = shape_.hidden_size;
    return Weight(unit, name + "down_proj", h, f, {{exported + "down_proj.weight", 0, {h, f}}});
  }

  void Layer(int layer, Residual& residual);
  TensorId SelfAttention(const std::string& name, UnitId unit, TensorId x);
  TensorId Mlp(const std::string& name, const std::string& exported, UnitId unit, TensorId x);
  struct ExpertWeights {
    TensorId gate_up, down;
  };
  ExpertWeights Experts(int layer, const std::string& name);
  // Tokens, and the experts and weights to which they are routed.
  struct Routed {
    TensorId x, weights, experts;
  };
  Routed Route(const std::string& name, TensorId x, TensorId gate, const OpAttrs& attrs);
  Routed OfGroup(const std::string& name, const Routed& own);
  OpAttrs Group() const { return {.group_ranks = shape_.expert_degree}; }
  TensorId MoeMlp(int layer, const std::string& name, UnitId dense, TensorId x);

  const HunyuanLmShape shape_;
  const HunyuanLmBatch batch_;
  const bool decoding_;
  bool sums_loads_ = false;
  GraphBuilder builder_;
  TensorId tokens_ = kNone, targets_ = kNone, positions_ = kNone, segment_start_ = kNone, position_ = kNone;
  TensorId cos_sin_ = kNone, output_table_ = kNone;
};

TensorId LanguageModel::SelfAttention(const std::string& name, UnitId unit, TensorId x) {
  const int64_t h = shape_.hidden_size, d = shape_.head_dim;
  const int64_t q = shape_.num_attention_heads, kv = shape_.num_key_value_heads;
  const std::string exported = absl::StrCat("model.", name);
  const TensorId qkv_proj = Weight(unit, name + "qkv_proj", (q + 2 * kv) * d, h,
                                   {{exported + "q_proj.weight", 0, {q * d, h}},
                                    {exported + "k_proj.weight", q * d * h, {kv * d, h}},
                                    {exported + "v_proj.weight", (q + kv) * d * h, {kv * d, h}}});
  const TensorId q_norm = Norm(unit, name + "query_layernorm", d);
  const TensorId k_norm = Norm(unit, name + "key_layernorm", d);
  const TensorId o_proj = Weight(unit, name + "o_proj", h, q * d, {{exported + "o_proj.weight", 0, {h, q * d}}});

  const OpAttrs attrs{.epsilon = shape_.rms_norm_eps,
                      .rows = batch_.rows,
                      .sequence = batch_.sequence,
                      .q_heads = q,
                      .kv_heads = kv,
                      .head_dim = d};
  const TensorId qkv = Linear(name + "qkv", x, qkv_proj);
  const auto qk = builder_.Append(OpKind::kQkRopeNorm, name + "qk", {qkv, cos_sin_, q_norm, k_norm}, attrs);
  TensorId o;
  if (decoding_) {
    const auto out =
        builder_.Append(OpKind::kCachedAttention, name + "attention", {qk[0], qk[1], qkv, position_}, attrs);
    for (TensorId cache : {out[1], out[2]}) builder_.graph().tensors[cache].tensor_class = TensorClass::kCache;
    o = out[0];
  } else {
    o = builder_.Append(OpKind::kAttention, name + "attention", {qk[0], qk[1], qkv, segment_start_}, attrs)[0];
  }
  return Linear(name + "o", o, o_proj);
}

TensorId LanguageModel::Mlp(const std::string& name, const std::string& exported, UnitId unit, TensorId x) {
  const TensorId gate_up_proj = GateUp(unit, name, exported), down_proj = Down(unit, name, exported);
  const TensorId gate_up = Linear(name + "gate_up", x, gate_up_proj);
  const TensorId act = builder_.Append(OpKind::kSwiglu, name + "swiglu", {gate_up, kNone})[0];
  return Linear(name + "down", act, down_proj);
}

// One unit for all experts. If experts are split, one unit per weight, so that a part of a unit consists of whole
// experts.
LanguageModel::ExpertWeights LanguageModel::Experts(int layer, const std::string& name) {
  const int64_t e = shape_.num_experts, f = shape_.intermediate_size, h = shape_.hidden_size;
  std::vector<ExportedName> gate_up_names, down_names;
  for (int64_t i = 0; i < e; ++i) {
    const std::string expert = absl::StrCat("model.", name, "experts.", i, ".");
    gate_up_names.push_back({expert + "gate_proj.weight", 2 * i * f * h, {f, h}});
    gate_up_names.push_back({expert + "up_proj.weight", (2 * i + 1) * f * h, {f, h}});
    down_names.push_back({expert + "down_proj.weight", i * h * f, {h, f}});
  }
  const std::string unit_name = absl::StrCat("layers.", layer, ".experts");
  const bool split = shape_.expert_degree > 1;
  const UnitId unit = builder_.AddUnit(split ? unit_name + ".gate_up" : unit_name, split);
  const TensorId gate_up =
      builder_.AddParameter(unit, name + "experts.gate_up_proj", {e, 2 * f, h},
                            InitialValues::Normal(shape_.initializer_range), true, std::move(gate_up_names));
  const UnitId down_unit = split ? builder_.AddUnit(unit_name + ".down", split) : unit;
  const TensorId down =
      builder_.AddParameter(down_unit, name + "experts.down_proj", {e, h, f},
                            InitialValues::Normal(shape_.initializer_range), true, std::move(down_names));
  return {gate_up, down};
}

LanguageModel::Routed LanguageModel::Route(const std::string& name, TensorId x, TensorId gate, const OpAttrs& attrs) {
  OpAttrs routing = attrs;
  routing.sums_loads = sums_loads_;
  const auto route = builder_.Append(OpKind::kRouter, name + "router", {x, gate}, routing);
  MarkOutput(route[3]);
  if (sums_loads_) builder_.graph().tensors[route[4]].tensor_class = TensorClass::kCache;
  return {x, route[0], route[1]};
}

// Gathers the tokens of all ranks of the group if experts are split. Every rank applies its own experts to all of these
// tokens, and the results are summed on the ranks that own the tokens. So the number of bytes exchanged does not depend
// on the routing.
LanguageModel::Routed LanguageModel::OfGroup(const std::string& name, const Routed& own) {
  const auto gather = [&](TensorId t, const char* what) {
    return builder_.Append(OpKind::kGatherRows, absl::StrCat(name, "all_", what), {t}, Group())[0];
  };
  return {gather(own.x, "tokens"), gather(own.weights, "weights"), gather(own.experts, "experts")};
}

TensorId LanguageModel::MoeMlp(int layer, const std::string& name, UnitId dense, TensorId x) {
  const int64_t e = shape_.num_experts, h = shape_.hidden_size;
  const bool split = shape_.expert_degree > 1;
  const TensorId gate =
      Weight(dense, name + "gate", e, h, {{absl::StrCat("model.", name, "gate.wg.weight"), 0, {e, h}}});
  const ExpertWeights weights = Experts(layer, name);
  OpAttrs attrs{.experts = e,
                .topk = shape_.moe_topk,
                .block_rows = batch_.expert_block_rows,
                .aux_coefficient = shape_.router_aux_loss_coefficient};
  Routed routed = Route(name, x, gate, attrs);
  if (split) {
    routed = OfGroup(name, routed);
    attrs.experts = builder_.graph().experts_of_rank;
    attrs.experts_of_all = e;
  }
  OpAttrs trans = attrs;
  trans.trans_b = true;
  const auto layout =
      builder_.Append(OpKind::kExpertLayout, name + "layout", {routed.experts, builder_.graph().first_expert}, attrs);
  const TensorId row_of_pair = layout[0], pair_of_row = layout[1], block_expert = layout[2], active = layout[3];
  const TensorId shared = Mlp(name + "shared_mlp.", absl::StrCat("model.", name, "shared_mlp."), dense, x);
  const TensorId rows =
      builder_.Append(OpKind::kDispatch, name + "dispatch", {routed.x, pair_of_row, active}, attrs)[0];
  const TensorId gate_up = builder_.Append(OpKind::kGroupedMatmul, name + "experts.gate_up",
                                           {rows, weights.gate_up, block_expert, active}, trans)[0];
  const TensorId act = builder_.Append(OpKind::kSwiglu, name + "experts.swiglu", {gate_up, active}, attrs)[0];
  const TensorId out = builder_.Append(OpKind::kGroupedMatmul, name + "experts.down",
                                       {act, weights.down, block_expert, active}, trans)[0];
  const TensorId y = builder_.Append(OpKind::kCombine, name + "combine",
                                     {split ? kNone : shared, out, routed.weights, row_of_pair}, attrs)[0];
  return split ? builder_.Append(OpKind::kSumRows, name + "sum", {y, shared}, Group())[0] : y;
}

void LanguageModel::Layer(int layer, Residual& residual) {
  const std::string name = absl::StrCat("layers.", layer, ".");
  builder_.SetBlock(layer);
  const UnitId dense = builder_.AddUnit(name + "dense");
  const TensorId input_norm = Norm(dense, name + "input_layernorm", shape_.hidden_size);
  const TensorId attention_in = AddNorm(name + "input_norm", residual, input_norm);
  residual.delta = SelfAttention(name + "self_attn.", dense, attention_in);
  const TensorId post_norm = Norm(dense, name + "post_attention_layernorm", shape_.hidden_size);
  const TensorId mlp_in = AddNorm(name + "post_attention_norm", residual, post_norm);
  if (shape_.is_moe()) {
    residual.delta = MoeMlp(layer, name + "mlp.", dense, mlp_in);
  } else {
    residual.delta = Mlp(name + "mlp.", absl::StrCat("model.", name, "mlp."), dense, mlp_in);
  }
  builder_.SetBlock(kNone);
}

TensorId LanguageModel::Body() {
  const int64_t v = shape_.vocab_size, h = shape_.hidden_size;
  const UnitId embedding = builder_.AddUnit("embedding");
  const TensorId table = Weight(embedding, "embed_tokens", v, h, {{"model.embed_tokens.weight", 0, {v, h}}});
  cos_sin_ = builder_.Append(
      OpKind::kRopeTable, "rope", {positions_},
      {.rope_theta = shape_.rope_theta, .rope_alpha = shape_.rope_alpha, .head_dim = shape_.head_dim})[0];
  Residual residual{builder_.Append(OpKind::kEmbedding, "embedding", {table, tokens_})[0], kNone};
  for (int layer = 0; layer < shape_.num_hidden_layers; ++layer) Layer(layer, residual);
  const UnitId head = builder_.AddUnit("head");
  const TensorId x = AddNorm("final_norm", residual, Norm(head, "norm", h));
  output_table_ = shape_.tie_word_embeddings ? table : Weight(head, "lm_head", v, h, {{"lm_head.weight", 0, {v, h}}});
  return x;
}

void LanguageModel::Loss(TensorId x) {
  const TensorId loss = builder_.Append(OpKind::kLinearCrossEntropy, "loss", {x, output_table_, targets_},
                                        {.chunk_tokens = batch_.lm_head_chunk_tokens})[0];
  builder_.graph().loss = static_cast<OpId>(builder_.graph().ops.size()) - 1;
  builder_.graph().tensors[loss].name = "token_loss";
  MarkOutput(loss);
}

}  // namespace

std::shared_ptr<const ParameterTable> HunyuanLmParameters(const HunyuanLmShape& shape, std::vector<StateSpec> states) {
  // The smallest number of tokens that ranks with split experts may exchange (ops/gather_rows.cc).
  LanguageModel model("parameters", shape, {.rows = 1, .sequence = 16}, /*decoding=*/false, /*table=*/nullptr);
  model.Inputs(/*with_targets=*/false);
  model.Body();
  ParameterTable table = *model.builder().Build().table;
  table.states = std::move(states);
  return std::make_shared<const ParameterTable>(std::move(table));
}

Graph BuildHunyuanLmEvaluation(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                               std::shared_ptr<const ParameterTable> table, StateId weights) {
  LanguageModel model("evaluation", shape, batch, /*decoding=*/false, std::move(table));
  model.builder().ReadParametersFrom(weights);
  model.Inputs(/*with_targets=*/true);
  model.Loss(model.Body());
  return model.builder().BuildForward();
}

Graph BuildHunyuanLmTraining(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                             const std::vector<bool>& recompute, std::shared_ptr<const ParameterTable> table) {
  APTM_CHECK(static_cast<int64_t>(recompute.size()) == shape.num_hidden_layers);
  LanguageModel model("training", shape, batch, /*decoding=*/false, std::move(table));
  model.SumLoads();
  model.Inputs(/*with_targets=*/true);
  model.Loss(model.Body());
  AppendBackward(model.builder(), recompute);
  return model.builder().Build();
}

Graph BuildHunyuanLmDecoding(const HunyuanLmShape& shape, int64_t rows, int64_t sequence, int64_t expert_block_rows,
                             std::shared_ptr<const ParameterTable> table) {
  LanguageModel model("decoding", shape, {.rows = rows, .sequence = sequence, .expert_block_rows = expert_block_rows},
                      /*decoding=*/true, std::move(table));
  model.Inputs(/*with_targets=*/false);
  model.Logits(model.Body());
  return model.builder().BuildForward();
}

Graph BuildHunyuanLmLogits(const HunyuanLmShape& shape, const HunyuanLmBatch& batch,
                           std::shared_ptr<const ParameterTable> table) {
  LanguageModel model("logits", shape, batch, /*decoding=*/false, std::move(table));
  model.Inputs(/*with_targets=*/false);
  model.Logits(model.Body());
  return model.builder().BuildForward();
}

}  // namespace angel_ptm
