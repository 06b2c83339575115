#include "angel_ptm/checkpoint/diffusers.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/config_json.h"

namespace angel_ptm {
namespace {

constexpr char kDiffusersStem[] = "diffusion_pytorch_model";

// How diffusers names a part, and the part's folder in a pipeline.
struct PartNames {
  const char *class_name, *folder, *layers;
};
PartNames NamesOf(DiffusersPart part) {
  if (part == DiffusersPart::kControlNet) {
    return {"HunyuanDiT2DControlNetModel", "controlnet", "transformer_num_layers"};
  }
  return {"HunyuanDiT2DModel", "transformer", "num_layers"};
}

// diffusers rounds hidden_size * mlp_ratio down: half a feature more keeps the result clear of rounding errors.
double MlpRatio(const HunyuanDitShape& m) {
  return (static_cast<double>(m.intermediate_size) + 0.5) / static_cast<double>(m.hidden_size);
}

nlohmann::ordered_json ConfigJsonOf(const HunyuanDitShape& m, DiffusersPart part) {
  nlohmann::ordered_json json = {{"_class_name", NamesOf(part).class_name},
                                 {"activation_fn", "gelu-approximate"},
                                 {"attention_head_dim", m.head_dim()},
                                 {"cross_attention_dim", m.clip_hidden_size},
                                 {"cross_attention_dim_t5", m.t5_hidden_size},
                                 {"hidden_size", m.hidden_size},
                                 {"in_channels", m.channels},
                                 {"mlp_ratio", MlpRatio(m)},
                                 {"num_attention_heads", m.num_attention_heads},
                                 {NamesOf(part).layers, m.num_hidden_layers},
                                 {"patch_size", m.patch_size},
                                 {"pooled_projection_dim", m.pooled_size},
                                 {"sample_size", m.height},
                                 {"text_len", m.clip_length},
                                 {"text_len_t5", m.t5_length},
                                 {"use_style_cond_and_image_meta_size", m.size_and_style}};
  if (part == DiffusersPart::kModel) {
    json["learn_sigma"] = m.learn_sigma;
    json["norm_type"] = "layer_norm";
  }
  return json;
}

// What diffusers assumes where a config.json says nothing, for the fields that have such a value.
nlohmann::json ClassDefaults(DiffusersPart part) {
  nlohmann::json json = {{"activation_fn", "gelu-approximate"},
                         {"attention_head_dim", 88},
                         {"cross_attention_dim", 1024},
                         {"cross_attention_dim_t5", 2048},
                         {"hidden_size", 1152},
                         {"mlp_ratio", 4.0},
                         {"num_attention_heads", 16},
                         {NamesOf(part).layers, part == DiffusersPart::kModel ? 28 : 40},
                         {"pooled_projection_dim", 1024},
                         {"text_len", 77},
                         {"text_len_t5", 256},
                         {"use_style_cond_and_image_meta_size", true}};
  if (part == DiffusersPart::kModel) {
    json["learn_sigma"] = true;
    json["norm_type"] = "layer_norm";
  }
  return json;
}

absl::Status CheckConfig(const std::string& path, const HunyuanDitShape& model, DiffusersPart part) {
  ASSIGN_OR_RETURN(const ConfigJson config, ConfigJson::Open(path, ClassDefaults(part).dump()));
  const nlohmann::ordered_json needed = ConfigJsonOf(model, part);
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

// The table with the parameters of only one part, under the part's names.
ParameterTable TableOf(const ParameterTable& table, DiffusersPart part) {
  ParameterTable own;
  for (const Unit& unit : table.units) own.AddUnit({.name = unit.name, .trainable = unit.trainable});
  const size_t prefix = part == DiffusersPart::kControlNet ? std::string_view(kControlNames).size() : 0;
  for (Parameter parameter : table.parameters) {
    if (IsOfControl(table.units[parameter.unit]) != (part == DiffusersPart::kControlNet)) continue;
    for (ExportedName& exported : parameter.exported) exported.name.erase(0, prefix);
    own.AddParameter(std::move(parameter));
  }
  return own;
}

}  // namespace

std::string DiffusersConfig(const HunyuanDitShape& model, DiffusersPart part) {
  return ConfigJsonOf(model, part).dump(2) + "\n";
}

std::vector<ExportedName> DiffusersTensors(const HunyuanDitShape& m, DiffusersPart part) {
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
  const bool branch = part == DiffusersPart::kControlNet;
  for (int64_t i = 0; i < (branch ? m.skips() : m.num_hidden_layers); ++i) {
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
  if (branch) {
    linear("input_block", h, h);
    for (int64_t i = 0; i < m.skips(); ++i) linear(absl::StrCat("controlnet_blocks.", i), h, h);
    return tensors;
  }
  linear("norm_out.linear", 2 * h, h);
  linear("proj_out", m.out_channels() * p * p, h);
  return tensors;
}

absl::Status ExportDiffusers(const ReadParameters& read, const ParameterTable& table, const HunyuanDitShape& model,
                             DiffusersPart part, const std::string& path, int64_t file_bytes_max) {
  return ExportWeights(read, TableOf(table, part),
                       {.stem = kDiffusersStem,
                        .tensors = DiffusersTensors(model, part),
                        .texts = {{"config.json", DiffusersConfig(model, part)}},
                        .file_bytes_max = file_bytes_max},
                       path);
}

absl::StatusOr<WeightsReader> OpenDiffusers(const std::string& path, const ParameterTable& table,
                                            const HunyuanDitShape& model, DiffusersPart part) {
  const std::string folder = absl::StrCat(path, "/", NamesOf(part).folder);
  ASSIGN_OR_RETURN(const bool pipeline, PathExists(folder + "/config.json"));
  const std::string directory = pipeline ? folder : path;
  RETURN_IF_ERROR(CheckConfig(directory + "/config.json", model, part));
  return WeightsReader::Open(directory, kDiffusersStem, TableOf(table, part));
}

ReadParameters ReadDiffusers(const ParameterTable& table, WeightsReader model, std::optional<WeightsReader> branch) {
  struct Readers {
    WeightsReader model;
    std::optional<WeightsReader> branch;
  };
  const auto readers = std::make_shared<const Readers>(Readers{std::move(model), std::move(branch)});
  return [&table, readers](UnitId unit, int64_t begin, std::span<float> out) -> absl::Status {
    if (!IsOfControl(table.units[unit])) return readers->model.Read(unit, begin, out);
    if (readers->branch) return readers->branch->Read(unit, begin, out);
    const UnitId source = HunyuanControlSource(table, unit);
    if (source != kNone) return readers->model.Read(source, begin, out);
    std::ranges::fill(out, 0.0f);
    return absl::OkStatus();
  };
}

}  // namespace angel_ptm
