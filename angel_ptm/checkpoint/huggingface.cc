#include "angel_ptm/checkpoint/huggingface.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/checkpoint/config_json.h"

namespace angel_ptm {
namespace {

using nlohmann::ordered_json;

constexpr char kStem[] = "model", kTokenizerConfig[] = "tokenizer_config.json";

ordered_json TokenId(int64_t id) { return id == kNone ? ordered_json(nullptr) : ordered_json(id); }

// What transformers assumes where a config.json says nothing, and the defaults of Tencent's own form.
constexpr char kLanguageModelDefaults[] = R"({"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008,
  "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
  "initializer_range": 0.02, "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "attention_bias": false,
  "num_experts": 1, "moe_topk": 1, "rope_theta": 10000.0,
  "mlp_bias": false, "use_qk_norm": true, "use_cla": false, "norm_topk_prob": true, "num_shared_expert": 1})";
constexpr char kDenseType[] = "\"hunyuan_v1_dense\"", kMoeType[] = "\"hunyuan_v1_moe\"",
               kTencentMoeType[] = "\"hunyuan\"";

// Sizes may be given for each layer.
absl::Status ReadExperts(const ConfigJson& config, HunyuanLmShape& m) {
  ASSIGN_OR_RETURN(m.num_experts, config.CountOfLayers("num_experts"));
  ASSIGN_OR_RETURN(m.moe_topk, config.CountOfLayers("moe_topk"));
  ASSIGN_OR_RETURN(const int64_t shared, config.CountOfLayers("num_shared_expert"));
  if (shared != 1) return config.Differs("num_shared_expert", "1");
  if (config.IsNull("moe_intermediate_size")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t expert, config.CountOfLayers("moe_intermediate_size"));
  return expert == m.intermediate_size
             ? absl::OkStatus()
             : config.Differs("moe_intermediate_size", absl::StrCat(m.intermediate_size, ", as intermediate_size is"));
}

// transformers 4: rope_theta and rope_scaling; transformers 5: rope_parameters with all of it.
absl::Status ReadRope(const ConfigJson& config, HunyuanLmShape& m) {
  ASSIGN_OR_RETURN(m.rope_theta, config.Number("rope_theta"));
  const char* field = config.IsNull("rope_parameters") ? "rope_scaling" : "rope_parameters";
  if (config.IsNull(field)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ConfigJson rope, config.Object(field));
  if (!rope.IsNull("rope_theta")) {
    ASSIGN_OR_RETURN(m.rope_theta, rope.Number("rope_theta"));
  }
  const char* type = rope.IsNull("rope_type") ? "type" : "rope_type";
  if (rope.Require(type, "\"default\"").ok()) return absl::OkStatus();
  RETURN_IF_ERROR(rope.RequireOneOf(type, {"\"default\"", "\"dynamic\""}));
  ASSIGN_OR_RETURN(m.rope_alpha, rope.Number("alpha"));
  return m.rope_alpha > 0 ? absl::OkStatus() : rope.Differs("alpha", "a number above 0");
}

}  // namespace

double Decimal(float value) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof(text), value).ptr;
  double decimal = 0;
  std::from_chars(text, end, decimal);
  return decimal;
}

// transformers 4 reads rope_theta and rope_scaling; transformers 5 turns them into its rope_parameters.
std::string HuggingFaceConfig(const HuggingFaceExport& config) {
  const HunyuanLmShape& m = config.model;
  ordered_json j = {{"architectures", {m.is_moe() ? "HunYuanMoEV1ForCausalLM" : "HunYuanDenseV1ForCausalLM"}},
                    {"model_type", m.is_moe() ? "hunyuan_v1_moe" : "hunyuan_v1_dense"},
                    {"torch_dtype", "float32"},
                    {"vocab_size", m.vocab_size},
                    {"hidden_size", m.hidden_size},
                    {"intermediate_size", m.intermediate_size},
                    {"num_hidden_layers", m.num_hidden_layers},
                    {"num_attention_heads", m.num_attention_heads},
                    {"num_key_value_heads", m.num_key_value_heads},
                    {"head_dim", m.head_dim},
                    {"hidden_act", "silu"},
                    {"rms_norm_eps", Decimal(m.rms_norm_eps)},
                    {"rope_theta", m.rope_theta},
                    {"rope_scaling", nullptr},
                    {"max_position_embeddings", config.max_position_embeddings},
                    {"initializer_range", Decimal(m.initializer_range)},
                    {"tie_word_embeddings", m.tie_word_embeddings},
                    {"attention_bias", false},
                    {"attention_dropout", 0.0},
                    {"use_cache", true},
                    {"pretraining_tp", 1},
                    {"bos_token_id", TokenId(config.bos_token_id)},
                    {"eos_token_id", TokenId(config.eos_token_id)},
                    {"pad_token_id", TokenId(config.pad_token_id)},
                    {"eod_token_id", TokenId(config.eos_token_id)}};
  if (m.rope_alpha > 0) {
    j["rope_scaling"] = {{"type", "dynamic"}, {"alpha", m.rope_alpha}, {"factor", 1.0},        {"beta_fast", 32},
                         {"beta_slow", 1},    {"mscale", 1.0},         {"mscale_all_dim", 1.0}};
  }
  if (m.is_moe()) {
    j["num_experts"] = m.num_experts;
    j["moe_topk"] = m.moe_topk;
    j["sep_token_id"] = nullptr;
    // Tencent's own configuration has these; transformers carries them along.
    j["moe_intermediate_size"] = m.intermediate_size;
    j["num_shared_expert"] = 1;
  }
  j["use_qk_norm"] = true;
  j["use_cla"] = false;
  return j.dump(2) + "\n";
}

absl::StatusOr<std::string> CompleteTokenizerConfig(const std::string& json, int64_t max_position_embeddings) {
  ordered_json j = ParseOrderedJson(json);
  if (!j.is_object()) return absl::InvalidArgumentError("tokenizer_config.json is not a JSON object");
  if (!j.contains("model_max_length")) j["model_max_length"] = max_position_embeddings;
  if (!j.contains("model_input_names")) j["model_input_names"] = {"input_ids", "attention_mask"};
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::vector<ExportedName> HuggingFaceTensors(const HunyuanLmShape& m) {
  const int64_t h = m.hidden_size, f = m.intermediate_size, d = m.head_dim;
  std::vector<ExportedName> tensors;
  const auto add = [&](const std::string& name, Shape shape) { tensors.push_back({name + ".weight", 0, shape}); };
  const auto add_mlp = [&](const std::string& prefix) {
    add(prefix + "gate_proj", {f, h});
    add(prefix + "up_proj", {f, h});
    add(prefix + "down_proj", {h, f});
  };
  add("model.embed_tokens", {m.vocab_size, h});
  for (int64_t i = 0; i < m.num_hidden_layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    add(layer + "input_layernorm", {h});
    add(layer + "post_attention_layernorm", {h});
    add(layer + "self_attn.q_proj", {m.num_attention_heads * d, h});
    add(layer + "self_attn.k_proj", {m.num_key_value_heads * d, h});
    add(layer + "self_attn.v_proj", {m.num_key_value_heads * d, h});
    add(layer + "self_attn.o_proj", {h, m.num_attention_heads * d});
    add(layer + "self_attn.query_layernorm", {d});
    add(layer + "self_attn.key_layernorm", {d});
    if (!m.is_moe()) {
      add_mlp(layer + "mlp.");
      continue;
    }
    add(layer + "mlp.gate.wg", {m.num_experts, h});
    add_mlp(layer + "mlp.shared_mlp.");
    for (int64_t e = 0; e < m.num_experts; ++e) add_mlp(absl::StrCat(layer, "mlp.experts.", e, "."));
  }
  add("model.norm", {h});
  if (!m.tie_word_embeddings) add("lm_head", {m.vocab_size, h});
  return tensors;
}

absl::Status ExportHuggingFace(const ReadParameters& read, const ParameterTable& table, const HuggingFaceExport& config,
                               const std::string& path) {
  ordered_json generation = ordered_json::object();
  if (config.eos_token_id != kNone) generation["eos_token_id"] = config.eos_token_id;
  if (config.pad_token_id != kNone) generation["pad_token_id"] = config.pad_token_id;
  WeightsExport what{
      .stem = kStem,
      .tensors = HuggingFaceTensors(config.model),
      .texts = {{"config.json", HuggingFaceConfig(config)}, {"generation_config.json", generation.dump(2) + "\n"}},
      .file_bytes_max = config.file_bytes_max};
  for (HuggingFaceFile file : config.tokenizer_files) {
    if (file.name == kTokenizerConfig) {
      ASSIGN_OR_RETURN(file.text, CompleteTokenizerConfig(file.text, config.max_position_embeddings));
    }
    what.texts.push_back(std::move(file));
  }
  return ExportWeights(read, table, what, path);
}

absl::StatusOr<HuggingFaceModel> ReadHuggingFaceModel(const std::string& path) {
  ASSIGN_OR_RETURN(const ConfigJson config, ConfigJson::Open(path + "/config.json", kLanguageModelDefaults));
  RETURN_IF_ERROR(config.RequireOneOf("model_type", {kDenseType, kMoeType, kTencentMoeType}));
  for (const auto& [field, wanted] :
       {std::pair("hidden_act", "\"silu\""), std::pair("attention_bias", "false"), std::pair("mlp_bias", "false"),
        std::pair("use_qk_norm", "true"), std::pair("use_cla", "false"), std::pair("norm_topk_prob", "true")}) {
    RETURN_IF_ERROR(config.Require(field, wanted));
  }
  HuggingFaceModel model;
  HunyuanLmShape& m = model.shape;
  for (const auto& [field, size] :
       {std::pair("vocab_size", &m.vocab_size), std::pair("hidden_size", &m.hidden_size),
        std::pair("num_hidden_layers", &m.num_hidden_layers), std::pair("num_attention_heads", &m.num_attention_heads),
        std::pair("max_position_embeddings", &model.max_position_embeddings)}) {
    ASSIGN_OR_RETURN(*size, config.Count(field));
  }
  m.num_key_value_heads = m.num_attention_heads;
  m.head_dim = m.hidden_size / m.num_attention_heads;
  for (const auto& [field, size] :
       {std::pair("num_key_value_heads", &m.num_key_value_heads), std::pair("head_dim", &m.head_dim)}) {
    if (config.IsNull(field)) continue;
    ASSIGN_OR_RETURN(*size, config.Count(field));
  }
  ASSIGN_OR_RETURN(m.intermediate_size, config.Count("intermediate_size"));
  if (!config.Require("model_type", kDenseType).ok()) RETURN_IF_ERROR(ReadExperts(config, m));
  ASSIGN_OR_RETURN(const double epsilon, config.Number("rms_norm_eps"));
  m.rms_norm_eps = static_cast<float>(epsilon);
  ASSIGN_OR_RETURN(const double range, config.Number("initializer_range"));
  m.initializer_range = static_cast<float>(range);
  ASSIGN_OR_RETURN(m.tie_word_embeddings, config.Bool("tie_word_embeddings"));
  RETURN_IF_ERROR(ReadRope(config, m));
  return model;
}

absl::StatusOr<WeightsReader> OpenHuggingFace(const std::string& path, const ParameterTable& table,
                                              const HunyuanLmShape& model) {
  ASSIGN_OR_RETURN(const HuggingFaceModel there, ReadHuggingFaceModel(path));
  const HunyuanLmShape& s = there.shape;
  // All digits of a number, of which absl::StrCat keeps six.
  const auto text = [](const auto& value) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
  };
  const auto truth = [](bool value) { return std::string(value ? "true" : "false"); };
  const std::tuple<const char*, std::string, std::string> fields[] = {
      {"vocab_size", text(model.vocab_size), text(s.vocab_size)},
      {"hidden_size", text(model.hidden_size), text(s.hidden_size)},
      {"intermediate_size", text(model.intermediate_size), text(s.intermediate_size)},
      {"num_hidden_layers", text(model.num_hidden_layers), text(s.num_hidden_layers)},
      {"num_attention_heads", text(model.num_attention_heads), text(s.num_attention_heads)},
      {"num_key_value_heads", text(model.num_key_value_heads), text(s.num_key_value_heads)},
      {"head_dim", text(model.head_dim), text(s.head_dim)},
      {"num_experts", text(model.num_experts), text(s.num_experts)},
      {"moe_topk", text(model.moe_topk), text(s.moe_topk)},
      {"rope_theta", text(model.rope_theta), text(s.rope_theta)},
      {"the alpha of its RoPE", text(model.rope_alpha), text(s.rope_alpha)},
      {"rms_norm_eps", text(model.rms_norm_eps), text(s.rms_norm_eps)},
      {"tie_word_embeddings", truth(model.tie_word_embeddings), truth(s.tie_word_embeddings)}};
  for (const auto& [field, wanted, got] : fields) {
    if (wanted == got) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        path, "/config.json: ", field, ": the configuration is of another model, wanted ", wanted, ", got ", got));
  }
  // The table of tied embeddings may be there twice.
  const std::vector<std::string> ignored =
      model.tie_word_embeddings ? std::vector<std::string>{"lm_head.weight"} : std::vector<std::string>{};
  return WeightsReader::Open(path, kStem, table, ignored);
}

}  // namespace angel_ptm
