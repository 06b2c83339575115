#include "angel_ptm/checkpoint/diffusers.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/config_json.h"

namespace angel_ptm {
namespace {

constexpr char kDiffusersStem[] = "diffusion_pytorch_model", kClass[] = "HunyuanDiT2DModel";

// diffusers takes the whole part of hidden_size * mlp_ratio: half a feature more keeps it clear of rounding.
double MlpRatio(const HunyuanDitShape& m) {
  return (static_cast<double>(m.intermediate_size) + 0.5) / static_cast<double>(m.hidden_size);
}

nlohmann::ordered_json ConfigJsonOf(const HunyuanDitShape& m) {
  return {{"_class_name", kClass},
          {"activation_fn", "gelu-approximate"},
          {"attention_head_dim", m.head_dim()},
          {"cross_attention_dim", m.clip_hidden_size},
          {"cross_attention_dim_t5", m.t5_hidden_size},
          {"hidden_size", m.hidden_size},
          {"in_channels", m.channels},
          {"learn_sigma", m.learn_sigma},
          {"mlp_ratio", MlpRatio(m)},
          {"norm_type", "layer_norm"},
          {"num_attention_heads", m.num_attention_heads},
          {"num_layers", m.num_hidden_layers},
          {"patch_size", m.patch_size},
          {"pooled_projection_dim", m.pooled_size},
          {"sample_size", m.height},
          {"text_len", m.clip_length},
          {"text_len_t5", m.t5_length},
          {"use_style_cond_and_image_meta_size", m.size_and_style}};
}

// What diffusers takes where a config.json says nothing, for the fields that have such a value.
constexpr char kClassDefaults[] = R"({
    "activation_fn": "gelu-approximate", "attention_head_dim": 88, "cross_attention_dim": 1024,
    "cross_attention_dim_t5": 2048, "hidden_size": 1152, "learn_sigma": true, "mlp_ratio": 4.0,
    "norm_type": "layer_norm", "num_attention_heads": 16, "num_layers": 28, "pooled_projection_dim": 1024,
    "text_len": 77, "text_len_t5": 256, "use_style_cond_and_image_meta_size": true})";

absl::Status CheckConfig(const std::string& path, const HunyuanDitShape& model) {
  ASSIGN_OR_RETURN(const ConfigJson config, ConfigJson::Open(path, kClassDefaults));
  const nlohmann::ordered_json needed = ConfigJsonOf(model);
  for (const auto& [field, wanted] : needed.items()) {
    if (field == "sample_size") continue;
    if (field != "mlp_ratio") {
      RETURN_IF_ERROR(config.Require(field, wanted.dump()));
      continue;
    }
    ASSIGN_OR_RETURN(const double ratio, config.Number(field));
    const double inner = ratio * static_cast<double>(model.hidden_size);
    if (inner >= 1 && inner < 1e12 && static_cast<int64_t>(inner) == model.intermediate_size) continue;
    return config.Differs(field, wanted.dump());
  }
  return absl::OkStatus();
}

}  // namespace

std::string DiffusersConfig(const HunyuanDitShape& model) { return ConfigJsonOf(model).dump(2) + "\n"; }

std::vector<ExportedName> DiffusersTensors(const HunyuanDitShape& m) {
  const int64_t h = m.hidden_size, d = m.head_dim(), c = m.clip_hidden_size, t = m.t5_hidden_size, p = m.patch_size;
  std::vector<ExportedName> tensors;
  const auto add = [&](const std::string& name, Shape shape) { tensors.push_back({name, 0, std::move(shape)}); };
  const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto norm = [&](const std::string& name, int64_t size) {
    add(name + ".weight", {size});
    add(name + ".bias", {size});
  };
  add("pos_embed.proj.weight", {h, m.channels, p, p});
  add("pos_embed.proj.bias", {h});
  add("text_embedding_padding", {m.text_length(), c});
  linear("text_embedder.linear_1", 4 * t, t);
  linear("text_embedder.linear_2", c, 4 * t);
  const std::string time = "time_extra_emb.";
  linear(time + "timestep_embedder.linear_1", h, kHunyuanFeatures);
  linear(time + "timestep_embedder.linear_2", h, h);
  const int64_t others = m.size_and_style ? kHunyuanSizes * kHunyuanFeatures + h : 0;
  linear(time + "extra_embedder.linear_1", 4 * h, m.pooled_size + others);
  linear(time + "extra_embedder.linear_2", h, 4 * h);
  if (m.size_and_style) add(time + "style_embedder.weight", {1, h});
  add(time + "pooler.positional_embedding", {m.t5_length + 1, t});
  for (const char* name : {"k_proj", "q_proj", "v_proj"}) linear(absl::StrCat(time, "pooler.", name), t, t);
  linear(time + "pooler.c_proj", m.pooled_size, t);
  for (int64_t i = 0; i < m.num_hidden_layers; ++i) {
    const std::string block = absl::StrCat("blocks.", i, ".");
    norm(block + "norm1.norm", h);
    linear(block + "norm1.linear", h, h);
    for (const auto& [attention, keys] : {std::pair("attn1.", h), std::pair("attn2.", c)}) {
      linear(block + attention + "to_q", h, h);
      linear(block + attention + "to_k", h, keys);
      linear(block + attention + "to_v", h, keys);
      linear(block + attention + "to_out.0", h, h);
      norm(block + attention + "norm_q", d);
      norm(block + attention + "norm_k", d);
    }
    norm(block + "norm2", h);
    norm(block + "norm3", h);
    linear(block + "ff.net.0.proj", m.intermediate_size, h);
    linear(block + "ff.net.2", h, m.intermediate_size);
    if (i <= m.num_hidden_layers / 2) continue;
    norm(block + "skip_norm", 2 * h);
    linear(block + "skip_linear", h, 2 * h);
  }
  linear("norm_out.linear", 2 * h, h);
  linear("proj_out", m.out_channels() * p * p, h);
  return tensors;
}

absl::Status ExportDiffusers(const ReadParameters& read, const ParameterTable& table, const HunyuanDitShape& model,
                             const std::string& path, int64_t file_bytes_max) {
  return ExportWeights(read, table,
                       {.stem = kDiffusersStem,
                        .tensors = DiffusersTensors(model),
                        .texts = {{"config.json", DiffusersConfig(model)}},
                        .file_bytes_max = file_bytes_max},
                       path);
}

absl::StatusOr<WeightsReader> OpenDiffusers(const std::string& path, const ParameterTable& table,
                                            const HunyuanDitShape& model) {
  ASSIGN_OR_RETURN(const bool pipeline, PathExists(path + "/transformer/config.json"));
  const std::string directory = pipeline ? path + "/transformer" : path;
  RETURN_IF_ERROR(CheckConfig(directory + "/config.json", model));
  return WeightsReader::Open(directory, kDiffusersStem, table);
}

}  // namespace angel_ptm
