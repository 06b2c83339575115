// Checks model.hunyuan_dit.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/config/checks.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLatentBaseSide = 64;  // in latent pixels: the size that position embeddings are based on
constexpr int64_t kPooledHeads = 8;

void CheckLatent(const HunyuanDitConfig& dit, Checks* checks) {
  checks->Set("channels", dit.channels(), kCountMax);
  const bool height_ok = checks->Set("height", dit.height(), kLatentSideMax);
  const bool width_ok = checks->Between("width", dit.width(), height_ok ? 1 : 0, kLatentSideMax);
  if (!checks->Between("patch_size", dit.patch_size(), 1, kLatentBaseSide)) return;
  checks->That(kLatentBaseSide % dit.patch_size() == 0, "patch_size", "places of patches are not whole",
               "a divisor of 64", Text(dit.patch_size()));
  if (height_ok) checks->MultipleOf("height", dit.height(), dit.patch_size());
  if (width_ok) checks->MultipleOf("width", dit.width(), dit.patch_size());
}

void CheckWidths(const HunyuanDitConfig& dit, Checks* checks) {
  const bool hidden_ok = checks->Set("hidden_size", dit.hidden_size(), kWidthMax);
  const bool heads_ok = checks->Set("num_attention_heads", dit.num_attention_heads(), kCountMax);
  if (hidden_ok) checks->MultipleOf("hidden_size", dit.hidden_size(), kWidthMultiple);
  if (hidden_ok && heads_ok) {
    const int64_t multiple = 4 * dit.num_attention_heads();
    checks->That(dit.hidden_size() % multiple == 0, "hidden_size", "heads are not of a multiple of 4 features",
                 absl::StrCat("a multiple of 4 * num_attention_heads = ", multiple), Text(dit.hidden_size()));
  }
  if (hidden_ok) checks->Between("intermediate_size", dit.intermediate_size(), 1, 4 * kWidthMax);
  if (checks->Set("num_hidden_layers", dit.num_hidden_layers(), kCountMax)) {
    checks->That(dit.num_hidden_layers() % 2 == 0, "num_hidden_layers", "blocks are not paired", "an even number",
                 Text(dit.num_hidden_layers()));
    checks->That(!dit.control() || dit.num_hidden_layers() >= 4, "control", "there is no long skip to add to",
                 "false, or num_hidden_layers of 4 or more", "true");
  }
}

void CheckTexts(const HunyuanDitConfig& dit, Checks* checks) {
  checks->Set("clip_hidden_size", dit.clip_hidden_size(), kWidthMax);
  checks->Set("clip_length", dit.clip_length(), kRowsMax);
  if (checks->Set("t5_hidden_size", dit.t5_hidden_size(), kWidthMax)) {
    checks->MultipleOf("t5_hidden_size", dit.t5_hidden_size(), 2 * kPooledHeads);
  }
  checks->Set("t5_length", dit.t5_length(), kRowsMax);
  checks->Set("pooled_size", dit.pooled_size(), kWidthMax);
}

void CheckBuckets(const HunyuanDitConfig& dit, Checks* checks) {
  const int64_t patch = dit.patch_size(), most = dit.height() * dit.width();
  std::vector<LatentSize> sizes = {{dit.height(), dit.width()}};
  for (const std::string& text : dit.bucket()) {
    const std::string got = absl::StrCat("\"", absl::CHexEscape(text), "\"");
    const std::optional<LatentSize> size = ParseLatentSize(text);
    if (!checks->That(size.has_value(), "bucket", "no size", absl::StrCat("HEIGHTxWIDTH, each 1 to ", kLatentSideMax),
                      got)) {
      continue;
    }
    checks->That(size->height % patch == 0 && size->width % patch == 0, "bucket", "unaligned",
                 absl::StrCat("multiples of ", patch), got);
    checks->That(size->height * size->width <= most, "bucket", "larger than height and width make",
                 absl::StrCat("at most ", most, " latent pixels"), got);
    checks->That(std::ranges::find(sizes, *size) == sizes.end(), "bucket", "there already", "each size once", got);
    sizes.push_back(*size);
  }
}

}  // namespace

std::optional<LatentSize> ParseLatentSize(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  LatentSize size;
  const auto parse = [](const std::string& digits, int64_t* side) {
    return !digits.empty() && std::ranges::all_of(digits, [](char c) { return absl::ascii_isdigit(c); }) &&
           absl::SimpleAtoi(digits, side) && *side >= 1 && *side <= kLatentSideMax;
  };
  if (parts.size() != 2 || !parse(parts[0], &size.height) || !parse(parts[1], &size.width)) return std::nullopt;
  return size;
}

LatentPrompt ParseLatentPrompt(const HunyuanDitConfig& dit, const std::string& text) {
  const size_t space = text.find(' ');
  if (space == std::string::npos) return {text, 0};
  LatentPrompt prompt{.number = text.substr(0, space), .bucket = {}};
  const std::string size = text.substr(space + 1);
  const HunyuanDitConfig model = WithDefaults(dit);
  const std::optional<LatentSize> asked = ParseLatentSize(size);
  if (asked == LatentSize{model.height(), model.width()}) prompt.bucket = 0;
  for (int b = 0; b < model.bucket_size(); ++b) {
    if (asked && asked == ParseLatentSize(model.bucket(b))) prompt.bucket = b + 1;
  }
  return prompt;
}

HunyuanDitConfig WithDefaults(HunyuanDitConfig dit) {
  if (dit.width() == 0) dit.set_width(dit.height());
  if (dit.intermediate_size() == 0) dit.set_intermediate_size(4 * dit.hidden_size());
  return dit;
}

void CheckHunyuanDit(const HunyuanDitConfig& given, Checks* all) {
  Checks checks("model.hunyuan_dit.");
  const bool small = given.hidden_size() <= kWidthMax;  // so that values derived from it do not overflow
  const HunyuanDitConfig dit = small ? WithDefaults(given) : given;
  CheckLatent(dit, &checks);
  CheckWidths(dit, &checks);
  CheckTexts(dit, &checks);
  if (checks.ok()) CheckBuckets(dit, &checks);
  checks.That(dit.prediction() != DitConfig::FLOW, "prediction", "the model is one of discrete diffusion steps",
              "EPSILON or VELOCITY", "FLOW");
  checks.That(dit.beta_start() > 0 && dit.beta_start() <= dit.beta_end() && dit.beta_end() < 1, "beta_start",
              "not the start of a schedule",
              absl::StrCat("above 0, at most beta_end = ", Text(dit.beta_end()), ", below 1"), Text(dit.beta_start()));
  checks.NotNegative("min_snr_gamma", dit.min_snr_gamma());
  checks.NotNegative("noise_offset", dit.noise_offset());
  if (checks.NotNegative("variance_weight", dit.variance_weight()) && dit.variance_weight() > 0) {
    checks.That(dit.learn_sigma(), "variance_weight", "the model has no channels for the variance",
                "0, or learn_sigma = true", Text(dit.variance_weight()));
  }
  const auto fraction = [&](const std::string& field, double value) {
    checks.That(value >= 0 && value <= 1, field, "out of range", "0 to 1", Text(value));
  };
  fraction("clip_dropout", dit.clip_dropout());
  fraction("t5_dropout", dit.t5_dropout());
  all->Append(checks);
}

void CheckHunyuanDitProducts(const TrainConfig& config, Checks* checks) {
  if (config.model().hunyuan_dit().bucket_size() > 0) {
    checks->That(config.optimizer().update() == OptimizerConfig::SYNCHRONOUS, "optimizer.update",
                 "model.hunyuan_dit.bucket has several graphs take turns", "SYNCHRONOUS", "LOCK_FREE");
    checks->That(config.output().trace_steps() == 0, "output.trace_steps",
                 "model.hunyuan_dit.bucket has several plans take turns, of which no one is the run's", "0",
                 Text(int64_t{config.output().trace_steps()}));
  }
  const HunyuanDitConfig dit = WithDefaults(config.model().hunyuan_dit());
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double h = number(dit.hidden_size()), inner = number(dit.intermediate_size());
  const double clip = number(dit.clip_hidden_size()), t5 = number(dit.t5_hidden_size());
  const double layers = number(dit.num_hidden_layers()) * (dit.control() ? 1.5 : 1);  // plus the branch's
  const double embedders = 11 * h * h + 4 * t5 * (2 * t5 + clip) + (number(dit.pooled_size()) + 4096) * (4 * h + t5);
  const double parameters = layers * (9 * h * h + 2 * h * (inner + clip)) + (dit.control() ? 2 : 1) * embedders;
  const std::string wanted = absl::StrCat("at most ", kElementsMax);
  checks->That(parameters <= number(kElementsMax), "model.hunyuan_dit", "too many parameters", wanted,
               Text(parameters));
  const double images = number(config.batch().micro_batch_sequences());
  const double tokens = images * number(SequenceTokens(config));
  const double words = (images + 1) * number(dit.clip_length() + dit.t5_length() + 1);
  checks->That(std::max(tokens, words) <= number(kRowsMax), "batch.micro_batch_sequences",
               "too many tokens in a micro-batch", absl::StrCat("at most ", kRowsMax), Text(std::max(tokens, words)));
  const double activations =
      layers * (tokens * (30 * h + 3 * inner) + words * 6 * h) + words * 8 * (clip + 4 * t5) + images * 16 * h;
  checks->That(activations <= number(kElementsMax), "batch.micro_batch_sequences",
               "too many activations of a micro-batch in all layers", wanted, Text(activations));
}

}  // namespace angel_ptm
