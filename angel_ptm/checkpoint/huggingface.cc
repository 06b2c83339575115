#include "angel_ptm/checkpoint/huggingface.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/json_nesting.h"

namespace angel_ptm {
namespace {

using nlohmann::ordered_json;

constexpr char kStem[] = "model", kTokenizerConfig[] = "tokenizer_config.json";

ordered_json TokenId(int64_t id) { return id == kNone ? ordered_json(nullptr) : ordered_json(id); }

// The double that prints like the float: 1e-05 instead of 9.999999747378752e-06.
double Decimal(float value) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof(text), value).ptr;
  double decimal = 0;
  std::from_chars(text, end, decimal);
  return decimal;
}

}  // namespace

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
                    {"bos_token_id", nullptr},
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
  const bool too_deep = NestsTooDeep(json);
  ordered_json j = too_deep ? ordered_json() : ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
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

absl::Status ImportHuggingFace(const std::string& path, const ParameterTable& table, const WriteParameters& write) {
  ASSIGN_OR_RETURN(const WeightsReader weights, WeightsReader::Open(path, kStem, table));
  return weights.ReadAll(write);
}

}  // namespace angel_ptm
