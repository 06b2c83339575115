// Checks model.dit and sampling{}.
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/config/checks.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

constexpr int64_t kSideMax = 16384;
constexpr int64_t kClassesMax = 1 << 20;

// hidden = heads * head width. 2D rotary embeddings turn pairs of features in two directions, so the head width is a
// multiple of 4; hidden takes whole cache lines.
void CheckHeads(const std::string& hidden_field, int64_t hidden, const std::string& heads_field, int64_t heads,
                Checks* checks) {
  if (!checks->Between(hidden_field, hidden, 1, kWidthMax) || !checks->Between(heads_field, heads, 1, kCountMax)) {
    return;
  }
  checks->MultipleOf(hidden_field, hidden, kWidthMultiple);
  checks->That(hidden % (4 * heads) == 0, hidden_field, "heads are not of a multiple of 4 features",
               absl::StrCat("a multiple of 4 * ", heads_field, " = ", 4 * heads), Text(hidden));
}

void CheckImage(const DitConfig& dit, Checks* checks) {
  checks->That(dit.channels() >= 1 && dit.channels() <= kCountMax, "channels", "out of range",
               absl::StrCat("1 to ", kCountMax), Text(dit.channels()));
  const bool height_ok = checks->Set("height", dit.height(), kSideMax);
  const bool width_ok = checks->Between("width", dit.width(), height_ok ? 1 : 0, kSideMax);
  if (!checks->Set("patch_size", dit.patch_size(), kSideMax)) return;
  if (height_ok) checks->MultipleOf("height", dit.height(), dit.patch_size());
  if (width_ok) checks->MultipleOf("width", dit.width(), dit.patch_size());
}

void CheckCondition(const DitConfig& dit, Checks* checks) {
  checks->Between("class_count", dit.class_count(), 0, kClassesMax);
  if (!checks->Between("text_length", dit.text_length(), 0, kRowsMax) || dit.text_length() == 0) return;
  checks->That(dit.class_count() == 0, "text_length", "images are conditioned on classes already",
               "0, or class_count = 0", Text(dit.text_length()));
  CheckHeads("text_hidden_size", dit.text_hidden_size(), "text_num_attention_heads", dit.text_num_attention_heads(),
             checks);
  checks->Between("text_num_hidden_layers", dit.text_num_hidden_layers(), 0, kCountMax);
  checks->That(
      dit.text_vocab_size() == 0 || (dit.text_vocab_size() >= kVocabularyMin && dit.text_vocab_size() < kVocabularyMax),
      "text_vocab_size", "out of range",
      absl::StrCat("0 (the tokenizer's size) or ", kVocabularyMin, " to ", kVocabularyMax - 1),
      Text(dit.text_vocab_size()));
}

void CheckObjective(const DitConfig& dit, Checks* checks) {
  const auto fraction = [&](const std::string& field, double value) {
    return checks->That(value >= 0 && value <= 1, field, "out of range", "0 to 1", Text(value));
  };
  checks->That(std::isfinite(dit.flow_time_mean()) && std::abs(dit.flow_time_mean()) <= 20, "flow_time_mean",
               "out of range", "-20 to 20", Text(dit.flow_time_mean()));
  checks->Positive("flow_time_deviation", dit.flow_time_deviation(), 20);
  checks->Positive("flow_shift", dit.flow_shift(), 1000);
  checks->That(dit.beta_start() > 0 && dit.beta_start() <= dit.beta_end() && dit.beta_end() < 1, "beta_start",
               "not the start of a schedule",
               absl::StrCat("above 0, at most beta_end = ", Text(dit.beta_end()), ", below 1"), Text(dit.beta_start()));
  checks->NotNegative("min_snr_gamma", dit.min_snr_gamma());
  if (checks->NotNegative("noise_offset", dit.noise_offset()) && dit.noise_offset() > 0) {
    checks->That(dit.prediction() != DitConfig::FLOW, "noise_offset", "flows end at noise of no mean",
                 "0, or prediction EPSILON or VELOCITY", Text(dit.noise_offset()));
  }
  if (checks->NotNegative("variance_weight", dit.variance_weight()) && dit.variance_weight() > 0) {
    checks->That(dit.prediction() != DitConfig::FLOW, "variance_weight", "flows have no variance to learn",
                 "0, or prediction EPSILON or VELOCITY", Text(dit.variance_weight()));
  }
  fraction("condition_dropout", dit.condition_dropout());
  if (fraction("flip_probability", dit.flip_probability()) && dit.latents()) {
    checks->That(dit.flip_probability() == 0, "flip_probability", "a mirrored latent is not that of a mirrored image",
                 "0 with latents", Text(dit.flip_probability()));
  }
  fraction("other_captions", dit.other_captions());
}

constexpr int kPromptsMax = 1 << 16;

void CheckLatentPrompts(const TrainConfig& config, Checks* checks) {
  const HunyuanDitConfig dit = WithDefaults(config.model().hunyuan_dit());
  std::string sizes = absl::StrCat(dit.height(), "x", dit.width());
  for (const std::string& bucket : dit.bucket()) absl::StrAppend(&sizes, ", ", bucket);
  for (const std::string& prompt : config.sampling().prompt()) {
    checks->That(ParseLatentPrompt(dit, prompt).bucket.has_value(), "sampling.prompt", "the run has no such size",
                 absl::StrCat("a sample's number, or behind it one of ", sizes),
                 absl::StrCat("\"", absl::CHexEscape(prompt), "\""));
  }
}

}  // namespace

bool CanBeGuided(const ModelConfig& model) {
  if (model.has_hunyuan_dit()) return model.hunyuan_dit().clip_dropout() > 0 && model.hunyuan_dit().t5_dropout() > 0;
  const DitConfig& dit = model.dit();
  return model.has_dit() && dit.condition_dropout() > 0 && (dit.text_length() > 0 || dit.class_count() > 0);
}

void CheckSampling(const TrainConfig& config, Checks* checks) {
  const SamplingConfig& sampling = config.sampling();
  if (!checks->Between("sampling.every_steps", sampling.every_steps(), 0, kStepsMax) || sampling.every_steps() == 0) {
    return;
  }
  if (!checks->That(!config.model().has_hunyuan_lm(), "sampling.every_steps", "only diffusion transformers are sampled",
                    "0", Text(sampling.every_steps()))) {
    return;
  }
  const DitConfig& dit = config.model().dit();
  const bool conditioned = config.model().has_hunyuan_dit() || dit.text_length() > 0 || dit.class_count() > 0;
  checks->That(
      conditioned ? sampling.prompt_size() > 0 && sampling.prompt_size() <= kPromptsMax : sampling.prompt_size() == 0,
      "sampling.prompt", conditioned ? "nothing to sample, or too much" : "the model has no condition",
      conditioned ? absl::StrCat("1 to ", kPromptsMax, " prompts") : "none", Text(int64_t{sampling.prompt_size()}));
  if (config.model().has_hunyuan_dit()) CheckLatentPrompts(config, checks);
  const double guidance = sampling.guidance();
  if (checks->That(guidance >= 0 && guidance <= kGuidanceMax, "sampling.guidance", "out of range",
                   absl::StrCat("0 to ", kGuidanceMax), Text(guidance)) &&
      guidance != 1) {
    checks->That(CanBeGuided(config.model()), "sampling.guidance", "the model is trained without dropped conditions",
                 !conditioned                       ? "1"
                 : config.model().has_hunyuan_dit() ? "1, or model.hunyuan_dit's clip_dropout and t5_dropout above 0"
                                                    : "1, or model.dit.condition_dropout above 0",
                 Text(guidance));
  }
}

DitConfig WithDefaults(DitConfig dit) {
  if (dit.width() == 0) dit.set_width(dit.height());
  if (dit.intermediate_size() == 0) dit.set_intermediate_size(4 * dit.hidden_size());
  if (dit.text_hidden_size() == 0) dit.set_text_hidden_size(dit.hidden_size());
  if (dit.text_num_attention_heads() == 0) dit.set_text_num_attention_heads(dit.num_attention_heads());
  return dit;
}

int64_t SequenceTokens(const TrainConfig& config) {
  if (config.model().has_hunyuan_dit()) {
    const HunyuanDitConfig hunyuan = WithDefaults(config.model().hunyuan_dit());
    return (hunyuan.height() / hunyuan.patch_size()) * (hunyuan.width() / hunyuan.patch_size());
  }
  if (!config.model().has_dit()) return config.data().sequence_length();
  const DitConfig dit = WithDefaults(config.model().dit());
  return (dit.height() / dit.patch_size()) * (dit.width() / dit.patch_size());
}

void CheckDit(const DitConfig& given, Checks* all) {
  Checks checks("model.dit.");
  const bool hidden_ok = checks.Set("hidden_size", given.hidden_size(), kWidthMax);
  const bool heads_ok = checks.Set("num_attention_heads", given.num_attention_heads(), kCountMax);
  const DitConfig dit = hidden_ok && heads_ok ? WithDefaults(given) : given;
  CheckImage(dit, &checks);
  if (hidden_ok && heads_ok) {
    CheckHeads("hidden_size", dit.hidden_size(), "num_attention_heads", dit.num_attention_heads(), &checks);
    if (checks.Set("intermediate_size", dit.intermediate_size(), 4 * kWidthMax)) {
      checks.MultipleOf("intermediate_size", dit.intermediate_size(), kWidthMultiple);
    }
    CheckCondition(dit, &checks);
  }
  checks.Set("num_hidden_layers", dit.num_hidden_layers(), kCountMax);
  checks.Positive("rope_theta", dit.rope_theta());
  checks.Positive("initializer_range", dit.initializer_range(), kInitializerMax);
  CheckObjective(dit, &checks);
  all->Append(checks);
}

void CheckDitProducts(const TrainConfig& config, Checks* checks) {
  const DitConfig dit = WithDefaults(config.model().dit());
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double hidden = number(dit.hidden_size()), inner = number(dit.intermediate_size());
  const double text = dit.text_length() > 0 ? number(dit.text_hidden_size()) : 0;
  const double layers = number(dit.num_hidden_layers()), text_layers = number(dit.text_num_hidden_layers());
  const double table = number(std::max(dit.text_vocab_size(), kVocabularyMin) + dit.text_length()) * text +
                       number(dit.class_count()) * hidden;
  const double parameters =
      layers * (12 * hidden * hidden + 2 * hidden * (inner + text)) + text_layers * 12 * text * text + table;
  const std::string wanted = absl::StrCat("at most ", kElementsMax);
  checks->That(parameters <= number(kElementsMax), "model.dit", "too many parameters", wanted, Text(parameters));
  const double images = number(config.batch().micro_batch_sequences());
  const double tokens = images * number(SequenceTokens(config)), words = images * number(dit.text_length());
  checks->That(std::max(tokens, words) <= number(kRowsMax), "batch.micro_batch_sequences",
               "too many tokens in a micro-batch", absl::StrCat("at most ", kRowsMax), Text(std::max(tokens, words)));
  const double activations = layers * (tokens * (16 * hidden + 3 * inner) + images * 12 * hidden + words * 4 * hidden) +
                             text_layers * words * 24 * text;
  checks->That(activations <= number(kElementsMax), "batch.micro_batch_sequences",
               "too many activations of a micro-batch in all layers", wanted, Text(activations));
}

}  // namespace angel_ptm
