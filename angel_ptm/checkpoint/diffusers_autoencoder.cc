#include "angel_ptm/checkpoint/diffusers_autoencoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/config_json.h"

namespace angel_ptm {
namespace {

constexpr char kVaeStem[] = "diffusion_pytorch_model";
constexpr size_t kLevelsMax = 8;
constexpr int64_t kChannelsMax = int64_t{1} << 16, kLayersMax = 256;

// What diffusers assumes where a config.json says nothing.
constexpr char kClassDefaults[] = R"({
    "act_fn": "silu", "block_out_channels": [64], "down_block_types": ["DownEncoderBlock2D"], "in_channels": 3,
    "latent_channels": 4, "layers_per_block": 1, "mid_block_add_attention": true, "norm_num_groups": 32,
    "out_channels": 3, "scaling_factor": 0.18215, "up_block_types": ["UpDecoderBlock2D"], "use_post_quant_conv": true,
    "use_quant_conv": true})";

// A JSON array of one text, `levels` times.
std::string Repeated(const char* block, size_t levels) {
  return absl::StrCat("[\"", absl::StrJoin(std::vector<std::string>(levels, block), "\", \""), "\"]");
}

absl::StatusOr<std::vector<int64_t>> ReadChannels(const ConfigJson& config, int64_t groups) {
  ASSIGN_OR_RETURN(std::vector<int64_t> channels, config.Counts("block_out_channels"));
  const std::string wanted =
      absl::StrCat("1 to ", kLevelsMax, " multiples of norm_num_groups = ", groups, ", at most ", kChannelsMax);
  bool fits = channels.size() <= kLevelsMax;
  for (const int64_t c : channels) fits = fits && c % groups == 0 && c <= kChannelsMax;
  if (!fits) return config.Differs("block_out_channels", wanted);
  return channels;
}

absl::Status RequireArchitecture(const ConfigJson& config, size_t levels) {
  RETURN_IF_ERROR(config.Require("_class_name", "\"AutoencoderKL\""));
  RETURN_IF_ERROR(config.Require("act_fn", "\"silu\""));
  RETURN_IF_ERROR(config.Require("down_block_types", Repeated("DownEncoderBlock2D", levels)));
  RETURN_IF_ERROR(config.Require("up_block_types", Repeated("UpDecoderBlock2D", levels)));
  RETURN_IF_ERROR(config.Require("mid_block_add_attention", "true"));
  return absl::OkStatus();
}

// diffusers treats latents_mean or latents_std alone as neither, and would shift either by the factor or by the means.
// Both cases are refused, because nobody can mean them.
absl::StatusOr<LatentScaling> ReadScaling(const ConfigJson& config, int64_t channels) {
  LatentScaling scaling;
  ASSIGN_OR_RETURN(scaling.scaling_factor, config.Number("scaling_factor"));
  if (!(scaling.scaling_factor > 0 && std::isfinite(scaling.scaling_factor))) {
    return config.Differs("scaling_factor", "a positive number");
  }
  if (!config.IsNull("shift_factor")) {
    ASSIGN_OR_RETURN(scaling.shift_factor, config.Number("shift_factor"));
    if (!std::isfinite(scaling.shift_factor)) return config.Differs("shift_factor", "a finite number");
  }
  if (config.IsNull("latents_mean") && config.IsNull("latents_std")) return scaling;
  const auto fits = [channels](const std::vector<double>& values, double least) {
    return static_cast<int64_t>(values.size()) == channels &&
           std::ranges::all_of(values, [&](double value) { return value >= least && std::isfinite(value); });
  };
  ASSIGN_OR_RETURN(scaling.mean, config.Numbers("latents_mean"));
  if (!fits(scaling.mean, std::numeric_limits<double>::lowest())) {
    return config.Differs("latents_mean", absl::StrCat("a number for each of the ", channels, " latent_channels"));
  }
  ASSIGN_OR_RETURN(scaling.std, config.Numbers("latents_std"));
  if (!fits(scaling.std, std::numeric_limits<double>::min())) {
    return config.Differs("latents_std",
                          absl::StrCat("a positive number for each of the ", channels, " latent_channels"));
  }
  if (scaling.shift_factor != 0) return config.Differs("shift_factor", "null or 0 beside latents_mean");
  return scaling;
}

absl::StatusOr<AutoencoderKlDirectory> ReadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const ConfigJson config, ConfigJson::Open(path + "/config.json", kClassDefaults));
  RETURN_IF_ERROR(config.Require("_class_name", "\"AutoencoderKL\""));
  AutoencoderKlDirectory directory{.path = path};
  AutoencoderKlShape& shape = directory.shape;
  ASSIGN_OR_RETURN(shape.norm_num_groups, config.Count("norm_num_groups"));
  ASSIGN_OR_RETURN(shape.block_out_channels, ReadChannels(config, shape.norm_num_groups));
  RETURN_IF_ERROR(RequireArchitecture(config, shape.block_out_channels.size()));
  ASSIGN_OR_RETURN(shape.layers_per_block, config.Count("layers_per_block"));
  if (shape.layers_per_block > kLayersMax) return config.Differs("layers_per_block", absl::StrCat("1 to ", kLayersMax));
  ASSIGN_OR_RETURN(shape.latent_channels, config.Count("latent_channels"));
  if (shape.latent_channels > kChannelsMax) {
    return config.Differs("latent_channels", absl::StrCat("1 to ", kChannelsMax));
  }
  RETURN_IF_ERROR(config.Require("in_channels", absl::StrCat(shape.image_channels)));
  RETURN_IF_ERROR(config.Require("out_channels", absl::StrCat(shape.image_channels)));
  ASSIGN_OR_RETURN(shape.has_quant_conv, config.Bool("use_quant_conv"));
  ASSIGN_OR_RETURN(shape.has_post_quant_conv, config.Bool("use_post_quant_conv"));
  ASSIGN_OR_RETURN(directory.scaling, ReadScaling(config, shape.latent_channels));
  return directory;
}

}  // namespace

double LatentScaling::Scaled(double latent, int64_t channel) const {
  if (mean.empty()) return (latent - shift_factor) * scaling_factor;
  const auto c = static_cast<size_t>(channel);
  return (latent - mean[c]) * scaling_factor / std[c];
}

double LatentScaling::Unscaled(double scaled, int64_t channel) const {
  if (mean.empty()) return scaled / scaling_factor + shift_factor;
  const auto c = static_cast<size_t>(channel);
  return scaled * std[c] / scaling_factor + mean[c];
}

absl::StatusOr<WeightsReader> AutoencoderKlDirectory::OpenEncoder(const ParameterTable& table) const {
  return WeightsReader::Open(path, kVaeStem, table, AutoencoderKlDecoderTensors());
}

absl::StatusOr<WeightsReader> AutoencoderKlDirectory::OpenDecoder(const ParameterTable& table) const {
  return WeightsReader::Open(path, kVaeStem, table, AutoencoderKlEncoderTensors());
}

absl::StatusOr<AutoencoderKlDirectory> OpenAutoencoderKl(const std::string& path) {
  ASSIGN_OR_RETURN(const bool inside, PathExists(path + "/vae/config.json"));
  ASSIGN_OR_RETURN(AutoencoderKlDirectory directory, ReadConfig(inside ? path + "/vae" : path));
  // Files do not say which names they use. If neither kind of names fits, the error is that of the first, today's
  // diffusers' names.
  const auto check = [&directory] {
    const int64_t side = directory.shape.reduction();
    const absl::Status encoder =
        directory.OpenEncoder(*BuildAutoencoderKlEncoder(directory.shape, side, side).table).status();
    if (!encoder.ok()) return encoder;
    return directory.OpenDecoder(*BuildAutoencoderKlDecoder(directory.shape, 1, 1).table).status();
  };
  const absl::Status today = check();
  if (today.ok()) return directory;
  directory.shape.has_query_names = true;
  if (check().ok()) return directory;
  return today;
}

}  // namespace angel_ptm
