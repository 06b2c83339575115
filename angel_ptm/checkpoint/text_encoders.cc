#include "angel_ptm/checkpoint/text_encoders.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/config_json.h"

namespace angel_ptm {
namespace {

constexpr char kTextEncoderStem[] = "model";

// What transformers assumes where a config.json says nothing.
constexpr char kBertDefaults[] = R"({
    "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "is_decoder": false, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12,
    "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522})";
constexpr char kT5Defaults[] = R"({
    "d_ff": 2048, "d_kv": 64, "d_model": 512, "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "num_heads": 8,
    "num_layers": 6, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "vocab_size": 32128})";
// MT5Config's own defaults.
constexpr char kMt5Defaults[] = R"({
    "d_ff": 1024, "d_kv": 64, "d_model": 512, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6,
    "num_heads": 6, "num_layers": 8, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
    "vocab_size": 250112})";

std::string ConfigPath(const std::string& directory) { return directory + "/config.json"; }

absl::Status HeadsFit(const ConfigJson& config, std::string_view field, int64_t width, int64_t heads) {
  if (width % heads == 0 && width / heads % 2 == 0) return absl::OkStatus();
  return config.Differs(field, absl::StrCat("heads of an even width: a multiple of ", 2 * heads));
}

}  // namespace

absl::StatusOr<BertShape> ReadBertShape(const std::string& directory) {
  ASSIGN_OR_RETURN(const ConfigJson config, ConfigJson::Open(ConfigPath(directory), kBertDefaults));
  RETURN_IF_ERROR(config.Require("model_type", "\"bert\""));
  RETURN_IF_ERROR(config.Require("hidden_act", "\"gelu\""));
  RETURN_IF_ERROR(config.Require("position_embedding_type", "\"absolute\""));
  RETURN_IF_ERROR(config.Require("is_decoder", "false"));
  BertShape shape;
  ASSIGN_OR_RETURN(shape.vocab_size, config.Count("vocab_size"));
  ASSIGN_OR_RETURN(shape.hidden_size, config.Count("hidden_size"));
  ASSIGN_OR_RETURN(shape.intermediate_size, config.Count("intermediate_size"));
  ASSIGN_OR_RETURN(shape.num_hidden_layers, config.Count("num_hidden_layers"));
  ASSIGN_OR_RETURN(shape.num_attention_heads, config.Count("num_attention_heads"));
  ASSIGN_OR_RETURN(shape.max_position_embeddings, config.Count("max_position_embeddings"));
  ASSIGN_OR_RETURN(shape.type_vocab_size, config.Count("type_vocab_size"));
  ASSIGN_OR_RETURN(const double epsilon, config.Number("layer_norm_eps"));
  shape.layer_norm_eps = static_cast<float>(epsilon);
  RETURN_IF_ERROR(HeadsFit(config, "hidden_size", shape.hidden_size, shape.num_attention_heads));
  return shape;
}

absl::StatusOr<T5Shape> ReadT5Shape(const std::string& directory) {
  ASSIGN_OR_RETURN(ConfigJson config, ConfigJson::Open(ConfigPath(directory), kT5Defaults));
  RETURN_IF_ERROR(config.RequireOneOf("model_type", {"\"t5\"", "\"mt5\""}));
  if (config.Require("model_type", "\"mt5\"").ok()) {
    ASSIGN_OR_RETURN(config, ConfigJson::Open(ConfigPath(directory), kMt5Defaults));
  }
  RETURN_IF_ERROR(config.Require("feed_forward_proj", "\"gated-gelu\""));
  T5Shape shape;
  ASSIGN_OR_RETURN(shape.vocab_size, config.Count("vocab_size"));
  ASSIGN_OR_RETURN(shape.d_model, config.Count("d_model"));
  ASSIGN_OR_RETURN(shape.d_kv, config.Count("d_kv"));
  ASSIGN_OR_RETURN(shape.d_ff, config.Count("d_ff"));
  ASSIGN_OR_RETURN(shape.num_layers, config.Count("num_layers"));
  ASSIGN_OR_RETURN(shape.num_heads, config.Count("num_heads"));
  ASSIGN_OR_RETURN(shape.relative_attention_num_buckets, config.Count("relative_attention_num_buckets"));
  ASSIGN_OR_RETURN(shape.relative_attention_max_distance, config.Count("relative_attention_max_distance"));
  ASSIGN_OR_RETURN(const double epsilon, config.Number("layer_norm_epsilon"));
  shape.layer_norm_epsilon = static_cast<float>(epsilon);
  RETURN_IF_ERROR(HeadsFit(config, "d_kv", shape.d_kv, 1));
  if (shape.relative_attention_num_buckets % 4 != 0) {
    return config.Differs("relative_attention_num_buckets", "a multiple of 4");
  }
  if (shape.relative_attention_max_distance <= shape.relative_attention_num_buckets / 4) {
    return config.Differs("relative_attention_max_distance", "more than a quarter of the buckets");
  }
  return shape;
}

absl::StatusOr<WeightsReader> OpenBert(const std::string& directory, const ParameterTable& table) {
  return WeightsReader::Open(directory, kTextEncoderStem, table, {"pooler.*", "embeddings.position_ids"});
}

absl::StatusOr<WeightsReader> OpenT5(const std::string& directory, const ParameterTable& table) {
  return WeightsReader::Open(directory, kTextEncoderStem, table,
                             {"decoder.*", "lm_head.*", "encoder.embed_tokens.weight"});
}

}  // namespace angel_ptm
