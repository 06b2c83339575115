// angel-ptm generate: makes texts or images from a checkpoint, depending on its model.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/diffusers_autoencoder.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/utf8.h"
#include "angel_ptm/train/generate.h"
#include "angel_ptm/train/report/append_file.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/encode_images.h"
#include "angel_ptm/train/tasks/generate_images.h"
#include "angel_ptm/train/tasks/generate_latents.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/tasks/prompt_files.h"
#include "angel_ptm/train/train_state.h"
#include "launch/commands.h"
#include "launch/isa_choice.h"
#include "launch/progress_lines.h"

namespace angel_ptm {
namespace {

// Appends a JSON object per line. `angel-ptm report` reads the file as samples.jsonl.
absl::Status AppendSamples(AppendFile& file, int64_t step, const GenerateOptions& options,
                           const std::vector<GeneratedText>& texts) {
  using Json = nlohmann::ordered_json;
  std::string lines;
  for (size_t i = 0; i < texts.size(); ++i) {
    const Json sample = {{"step", step},
                         {"prompt", options.prompts[i]},
                         {"text", texts[i].text},
                         {"weights", options.inference.weights},
                         {"temperature", options.temperature},
                         {"top_k", options.top_k},
                         {"top_p", options.top_p},
                         {"seed", options.own_seeds[i].value_or(options.seed)}};
    absl::StrAppend(&lines, sample.dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
  }
  return file.Append(lines);
}

const std::vector<std::string> kOfTexts = {"tokens", "temperature", "top-k", "top-p"};
const std::vector<std::string> kOfImages = {"negative-prompt", "images", "steps",       "guidance",     "sampler",
                                            "texts",           "expert", "clip",        "t5",           "cache",
                                            "control-scale",   "size",   "autoencoder", "text-compute", "condition"};

// The prompts of --prompt, followed by those of the file --prompts.
absl::StatusOr<std::vector<Prompt>> PromptsFrom(const Arguments& arguments) {
  std::vector<Prompt> prompts;
  for (std::string& text : arguments.All("prompt")) prompts.push_back({.text = std::move(text)});
  if (!arguments.Has("prompts")) return prompts;
  ASSIGN_OR_RETURN(std::vector<Prompt> of_file, ReadPrompts(arguments.Get("prompts", "")));
  std::ranges::move(of_file, std::back_inserter(prompts));
  return prompts;
}

std::vector<std::string> PromptTexts(const std::vector<Prompt>& prompts) {
  std::vector<std::string> texts;
  for (const Prompt& prompt : prompts) texts.push_back(prompt.text);
  return texts;
}

std::vector<std::optional<uint64_t>> PromptSeeds(const std::vector<Prompt>& prompts) {
  std::vector<std::optional<uint64_t>> seeds;
  for (const Prompt& prompt : prompts) seeds.push_back(prompt.seed);
  return seeds;
}

// Refuses flags that only apply to the other kind of model.
absl::Status RefuseFlags(const Arguments& arguments, const std::vector<std::string>& flags, const char* makes) {
  for (const std::string& flag : flags) {
    if (!arguments.Has(flag)) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": the checkpoint's model makes ", makes));
  }
  return absl::OkStatus();
}

absl::StatusOr<GenerateOptions> TextOptions(const Arguments& arguments, const InferenceOptions& inference) {
  RETURN_IF_ERROR(RefuseFlags(arguments, kOfImages, "texts"));
  ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, PromptsFrom(arguments));
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!prompts[i].negative && !prompts[i].size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--prompts: prompt ", i + 1, " has a negative or a size, the checkpoint's model makes texts"));
  }
  GenerateOptions options{
      .prompts = PromptTexts(prompts), .own_seeds = PromptSeeds(prompts), .inference = inference, .notes = stderr};
  ASSIGN_OR_RETURN(options.tokens_max, arguments.GetInt("tokens", options.tokens_max));
  ASSIGN_OR_RETURN(options.temperature, arguments.GetDouble("temperature", options.temperature));
  ASSIGN_OR_RETURN(options.top_k, arguments.GetInt("top-k", options.top_k));
  ASSIGN_OR_RETURN(options.top_p, arguments.GetDouble("top-p", options.top_p));
  ASSIGN_OR_RETURN(options.seed, arguments.GetUint("seed", 1));
  constexpr int64_t kTokensMax = int64_t{1} << 30;
  if (options.tokens_max < 1 || options.tokens_max > kTokensMax) {
    return absl::InvalidArgumentError(absl::StrCat("--tokens: wanted 1 to ", kTokensMax, ", got ", options.tokens_max));
  }
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--temperature: wanted a finite number of 0 or more, got ", options.temperature));
  }
  if (options.top_k < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--top-k: wanted 0 (all) or more, got ", options.top_k));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("--top-p: wanted more than 0, at most 1, got ", options.top_p));
  }
  return options;
}

absl::Status GenerateText(const GenerateOptions& options, const std::string& checkpoint, int64_t step,
                          AppendFile* file) {
  ASSIGN_OR_RETURN(const std::vector<GeneratedText> texts, Generate(checkpoint, options));
  for (size_t i = 0; i < texts.size(); ++i) {
    std::printf("--- %s\n%s%s\n", options.prompts[i].c_str(), options.prompts[i].c_str(), texts[i].text.c_str());
  }
  return file == nullptr ? absl::OkStatus() : AppendSamples(*file, step, options, texts);
}

// Opens the output before spending time on its content, and removes a new file if there is no content.
absl::Status GenerateTextTo(const Arguments& arguments, const GenerateOptions& options, const std::string& checkpoint,
                            int64_t step) {
  if (!arguments.Has("output")) return GenerateText(options, checkpoint, step, nullptr);
  const std::string output = arguments.Get("output", "");
  ASSIGN_OR_RETURN(const bool existed, PathExists(output));
  ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(output));
  const absl::Status status = GenerateText(options, checkpoint, step, &file);
  if (!status.ok() && !existed) (void)RemoveFile(output);
  return status;
}

absl::StatusOr<SamplingMethod> MethodFrom(const Arguments& arguments, Prediction prediction) {
  const std::string name = arguments.Get("sampler", Name(DefaultMethod(prediction)));
  const std::optional<SamplingMethod> method = FindSamplingMethod(name);
  if (method) return *method;
  return absl::InvalidArgumentError(
      absl::StrCat("--sampler: wanted euler, ddpm, ddim or dpm-solver, got \"", name, "\""));
}

// One call makes images of one size, so a size that prompts name must be the same for all.
absl::Status TakeSizes(const std::vector<Prompt>& prompts, GenerateImagesOptions& options) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!prompts[i].size) continue;
    if (!options.size && i == 0) options.size = prompts[i].size;
    if (options.size == prompts[i].size) continue;
    return absl::InvalidArgumentError(absl::StrCat("--prompts: prompt ", i + 1, ": wanted the size of all others, ",
                                                   options.size.value_or("the model's own"), ", got ", *prompts[i].size,
                                                   "; one call makes one size"));
  }
  return absl::OkStatus();
}

// The negative for all prompts without their own.
absl::StatusOr<std::string> NegativeFrom(const Arguments& arguments, const std::vector<Prompt>& prompts) {
  const std::vector<std::string> given = arguments.All("negative-prompt");
  if (given.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("--negative-prompt: wanted one for all prompts, got ", given.size(),
                                                   "; a prompt's own is \"negative\" in a .jsonl of --prompts"));
  }
  if (given.empty()) return std::string();
  const auto has_own = [](const Prompt& prompt) { return prompt.negative.has_value(); };
  if (!prompts.empty() && std::ranges::all_of(prompts, has_own)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--negative-prompt: every prompt has a \"negative\" of its own, wanted none, got \"", given[0], "\""));
  }
  return given[0];
}

absl::StatusOr<GenerateImagesOptions> ImageOptions(const Arguments& arguments, const InferenceOptions& inference,
                                                   Prediction prediction) {
  RETURN_IF_ERROR(RefuseFlags(arguments, kOfTexts, "images"));
  ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, PromptsFrom(arguments));
  ASSIGN_OR_RETURN(const std::string negative, NegativeFrom(arguments, prompts));
  GenerateImagesOptions options{.prompts = PromptTexts(prompts),
                                .negative_prompt = negative,
                                .own_seeds = PromptSeeds(prompts),
                                .inference = inference,
                                .notes = stderr};
  for (const Prompt& prompt : prompts) options.own_negatives.push_back(prompt.negative);
  ASSIGN_OR_RETURN(options.images_per_prompt, arguments.GetInt("images", options.images_per_prompt));
  ASSIGN_OR_RETURN(options.steps, arguments.GetInt("steps", options.steps));
  ASSIGN_OR_RETURN(options.guidance, arguments.GetDouble("guidance", options.guidance));
  ASSIGN_OR_RETURN(options.seed, arguments.GetUint("seed", 1));
  for (const std::string& text : arguments.All("expert")) {
    ASSIGN_OR_RETURN(Expert expert, ParseExpert(text, "--expert"));
    ASSIGN_OR_RETURN(expert.checkpoint, ResolveCheckpoint(expert.checkpoint));
    options.experts.push_back(std::move(expert));
  }
  if (arguments.Has("size")) options.size = arguments.Get("size", "");
  RETURN_IF_ERROR(TakeSizes(prompts, options));
  if (arguments.Has("control-scale")) {
    ASSIGN_OR_RETURN(options.control_scale, arguments.GetDouble("control-scale", 1));
  }
  RETURN_IF_ERROR(arguments.Require("output").status());
  ASSIGN_OR_RETURN(options.method, MethodFrom(arguments, prediction));
  return options;
}

// Checks that a file can be written at `path`, before spending time on its content. Creates the file's folder.
absl::Status CheckCanWrite(const std::string& path) {
  std::error_code error;  // a path that cannot be inspected cannot be written either, and writing gives the reason
  if (std::filesystem::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("--output: wanted a file, got the folder ", path));
  }
  RETURN_IF_ERROR(MakeDirectories(ParentDirectory(path)));
  return AtomicFile::Create(path).status();
}

// The same for a folder. A folder that did not exist does not exist afterwards.
absl::Status CheckCanWriteInto(const std::string& folder) {
  ASSIGN_OR_RETURN(const bool existed, PathExists(folder));
  const absl::Status status = CheckCanWrite(folder + "/sheet.png");
  if (!existed) (void)rmdir(folder.c_str());
  return status;
}

absl::Status WriteToFolder(const std::string& folder, const GenerateImagesOptions& options, int64_t step,
                           std::vector<GeneratedImage> images) {
  const size_t count = images.size();
  const SamplingFacts facts{.step = step,
                            .weights = options.inference.weights,
                            .sampler = Name(*options.method),
                            .steps = options.steps,
                            .guidance = options.guidance,
                            .seed = options.seed};
  ASSIGN_OR_RETURN(const std::string note, WriteImages(folder, facts, std::move(images)));
  if (!note.empty()) std::fprintf(stderr, "note: %s\n", note.c_str());
  std::printf("%zu images and %s/sheet.png\n", count, folder.c_str());
  return absl::OkStatus();
}

// The autoencoder for latents with `channels` channels; none if --autoencoder is not given.
absl::StatusOr<std::optional<AutoencoderKlDirectory>> AutoencoderFrom(const Arguments& arguments, int64_t channels) {
  if (!arguments.Has("autoencoder")) return std::nullopt;
  if (!HasImageLibraries()) {
    return absl::UnimplementedError("--autoencoder: this build has no libpng and FreeType to write images with");
  }
  ASSIGN_OR_RETURN(AutoencoderKlDirectory directory, OpenAutoencoderKl(arguments.Get("autoencoder", "")));
  if (directory.shape.latent_channels == channels) return directory;
  return absl::InvalidArgumentError(absl::StrCat("--autoencoder: ", directory.path,
                                                 " is for latents of another model, wanted ", channels,
                                                 " channels, got ", directory.shape.latent_channels));
}

// For each prompt, the path of the image that the model's branch reads; empty for a model without a branch.
absl::StatusOr<std::vector<std::string>> ConditionsFor(const Arguments& arguments, const HunyuanDitShape& shape,
                                                       size_t prompts) {
  std::vector<std::string> paths = arguments.All("condition");
  if (!shape.control) {
    if (paths.empty()) return paths;
    return absl::InvalidArgumentError(
        "--condition: the checkpoint's model reads none, wanted one of model.hunyuan_dit.control");
  }
  if (paths.size() == 1) paths.resize(prompts, paths[0]);
  if (paths.size() != prompts || !arguments.Has("autoencoder")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--clip, --t5: the checkpoint's model reads a condition beside its texts, wanted --autoencoder and one "
        "--condition, or one for each of the ",
        prompts, " prompts, got ", arguments.All("condition").size(),
        arguments.Has("autoencoder") ? "" : " and no --autoencoder", "; or --texts, a file with both"));
  }
  return paths;
}

// Encodes the captions, which begin with the prompts, and the prompts' conditions into one file.
absl::Status EncodePrompts(const Arguments& arguments, const HunyuanDitShape& shape,
                           const GenerateImagesOptions& options, const std::vector<std::string>& captions,
                           const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<std::string> conditions, ConditionsFor(arguments, shape, options.prompts.size()));
  const auto encode_texts = [&](const std::string& to) {
    return EncodeTexts(arguments, captions, {shape.clip_length, shape.t5_length}, options.inference, options.progress,
                       arguments.Get("cache", path + ".cache"), to)
        .status();
  };
  if (conditions.empty()) return encode_texts(path);
  ASSIGN_OR_RETURN(const auto autoencoder, AutoencoderFrom(arguments, shape.channels));
  const LatentSize size =
      options.size ? *ParseLatentSize(*options.size) : LatentSize{.height = shape.height, .width = shape.width};
  const std::vector<std::string> parts = {path + ".texts", path + ".conditions"};
  absl::Status status = EncodeConditions(*autoencoder, conditions, static_cast<int64_t>(captions.size()), size.height,
                                         size.width, options.inference, parts[1]);
  if (status.ok()) status = encode_texts(parts[0]);
  if (status.ok()) status = JoinSafetensors(parts, path);
  for (const std::string& part : parts) status.Update(RemoveFile(part));
  return status;
}

// Returns the file of the prompts' states. That is --texts, with prompts as numbers of its samples; or, with --clip and
// --t5, a file beside the output that is made from the prompts, which are replaced by their numbers.
absl::StatusOr<std::string> TextsFor(const Arguments& arguments, const HunyuanDitShape& shape,
                                     GenerateImagesOptions& options, const std::string& output) {
  if (!arguments.Has("clip") && !arguments.Has("t5")) {
    for (const char* flag : {"cache", "text-compute", "condition"}) {
      if (!arguments.Has(flag)) continue;
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted --clip and --t5, for whose states it is"));
    }
    return arguments.Get("texts", "");
  }
  RETURN_IF_ERROR(RefuseFlags(arguments, {"texts"}, "latents of prompts in words where --clip and --t5 are given"));
  if (options.prompts.empty()) return absl::InvalidArgumentError("--prompt is missing");
  const auto check = [](const std::string& caption, const std::string& field) {
    if (!caption.empty() && ValidUtf8Prefix(caption) == caption.size()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(field, ": wanted a text in UTF-8, got an empty one or other bytes"));
  };
  for (const std::string& prompt : options.prompts) RETURN_IF_ERROR(check(prompt, "--prompt"));
  std::vector<std::string> captions = options.prompts;
  // Negatives follow the prompts, each once.
  std::vector<std::string> negatives;
  for (const NegativePrompt& negative : NegativesOf(options)) {
    negatives.push_back(negative.text);
    if (negative.text.empty()) continue;
    RETURN_IF_ERROR(check(negative.text, negative.field));
    const auto found =
        std::find(captions.begin() + static_cast<int64_t>(options.prompts.size()), captions.end(), negative.text);
    negatives.back() = absl::StrCat(found - captions.begin());
    if (found == captions.end()) captions.push_back(negative.text);
  }
  const std::string texts = output + ".texts.safetensors";
  RETURN_IF_ERROR(EncodePrompts(arguments, shape, options, captions, texts));
  for (size_t i = 0; i < options.prompts.size(); ++i) options.prompts[i] = absl::StrCat(i);
  options.own_negatives.assign(negatives.begin(), negatives.end());
  return texts;
}

absl::Status GenerateToFolder(const Arguments& arguments, const GenerateImagesOptions& options,
                              const std::string& checkpoint, int64_t step) {
  RETURN_IF_ERROR(CheckCanWriteInto(arguments.Get("output", "")));
  ASSIGN_OR_RETURN(std::vector<GeneratedImage> images, GenerateImages(checkpoint, options));
  return WriteToFolder(arguments.Get("output", ""), options, step, std::move(images));
}

// Writes latents to --output and, with --autoencoder, images of them beside it. make(options, output) writes the
// latents and returns how many there are.
absl::Status GenerateToFile(
    const Arguments& arguments, const GenerateImagesOptions& options, int64_t channels, int64_t step,
    absl::FunctionRef<absl::StatusOr<int64_t>(GenerateImagesOptions options, const std::string& output)> make) {
  ASSIGN_OR_RETURN(const std::optional<AutoencoderKlDirectory> decoder, AutoencoderFrom(arguments, channels));
  const std::string output = arguments.Get("output", "");
  RETURN_IF_ERROR(CheckCanWrite(output));
  if (decoder) RETURN_IF_ERROR(CheckCanWriteInto(output + ".images"));
  ASSIGN_OR_RETURN(const int64_t count, make(options, output));
  if (decoder) {
    ASSIGN_OR_RETURN(std::vector<GeneratedImage> images,
                     DecodeLatentFile(output, *decoder, options.inference, options.progress));
    for (size_t i = 0; i < images.size(); ++i) {
      const size_t prompt = i / static_cast<size_t>(options.images_per_prompt);
      if (!options.own_seeds.empty()) images[i].seed = options.own_seeds[prompt];
      if (arguments.Has("clip")) images[i].prompt = options.prompts[prompt];
    }
    RETURN_IF_ERROR(WriteToFolder(output + ".images", options, step, std::move(images)));
  }
  std::printf("%lld latents in %s\n", static_cast<long long>(count), output.c_str());
  return absl::OkStatus();
}

absl::Status GenerateOfHunyuanDit(const Arguments& arguments, const GenerateImagesOptions& options,
                                  const std::string& checkpoint, const TrainConfig& config, int64_t step) {
  // Before encoders take their time.
  RETURN_IF_ERROR(LatentBatch(config, options).status());
  const HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
  return GenerateToFile(arguments, options, shape.channels, step,
                        [&](GenerateImagesOptions asked, const std::string& output) -> absl::StatusOr<int64_t> {
                          ASSIGN_OR_RETURN(const std::string texts, TextsFor(arguments, shape, asked, output));
                          return GenerateLatents(checkpoint, texts, asked, output);
                        });
}

absl::Status GenerateOfDit(const Arguments& arguments, const GenerateImagesOptions& options,
                           const std::string& checkpoint, const DitConfig& dit, int64_t step) {
  RETURN_IF_ERROR(RefuseFlags(arguments,
                              {"texts", "clip", "t5", "cache", "control-scale", "size", "text-compute", "condition"},
                              "images of prompts that it reads itself"));
  if (options.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompts: \"size\": the checkpoint's model makes images of one size, got ", *options.size));
  }
  if (dit.latents()) {
    return GenerateToFile(arguments, options, dit.channels(), step,
                          [&](const GenerateImagesOptions& asked, const std::string& output) {
                            return GenerateDitLatents(checkpoint, asked, output);
                          });
  }
  RETURN_IF_ERROR(RefuseFlags(arguments, {"autoencoder"}, "pixels"));
  if (!HasImageLibraries()) {
    return absl::UnimplementedError("this build has no libpng and FreeType to write images with");
  }
  return GenerateToFolder(arguments, options, checkpoint, step);
}

}  // namespace

absl::StatusOr<InferenceOptions> InferenceHere(const Arguments& arguments) {
  const std::string isa = arguments.Get("isa", "");
  if (!isa.empty()) RETURN_IF_ERROR(IsaNamed(isa, CpuIsas()).status());
  const RunFacts machine = MachineFacts();
  return InferenceOptions{
      .threads = machine.kernel_threads_max > 0 ? std::min(machine.cores, machine.kernel_threads_max) : machine.cores,
      .kernels_for = [isa](DType compute) -> absl::StatusOr<const KernelTable*> {
        ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(isa, compute));
        return &choice.isa->kernels();
      },
      .memory_bytes_max = machine.machine_memory_bytes};
}

absl::Status GenerateCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words,
                       {.flags = {"checkpoint",   "prompt",          "prompts",        "tokens",      "temperature",
                                  "top-k",        "top-p",           "seed",           "weights",     "isa",
                                  "output",       "negative-prompt", "images",         "steps",       "guidance",
                                  "sampler",      "texts",           "expert",         "clip",        "t5",
                                  "cache",        "control-scale",   "size",           "autoencoder", "text-compute",
                                  "device-bytes", "host-bytes",      "nvme-directory", "condition"}}));
  ASSIGN_OR_RETURN(InferenceOptions inference, InferenceHere(arguments));
  RETURN_IF_ERROR(TakeBudgets(arguments, inference));
  inference.weights = arguments.Get("weights", inference.weights);
  ASSIGN_OR_RETURN(const std::string given, arguments.Require("checkpoint"));
  ProgressLines lines("generate");
  return ReadResolved(given, [&](const std::string& path) -> absl::Status {
    ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(path));
    std::string note;
    ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(checkpoint, &note));
    if (config.model().has_hunyuan_lm()) {
      ASSIGN_OR_RETURN(GenerateOptions options, TextOptions(arguments, inference));
      options.progress = lines.Reporter();
      return GenerateTextTo(arguments, options, path, checkpoint.manifest().step);
    }
    const bool latents = config.model().has_hunyuan_dit();
    const Prediction prediction =
        PredictionFromConfig(latents ? config.model().hunyuan_dit().prediction() : config.model().dit().prediction());
    ASSIGN_OR_RETURN(GenerateImagesOptions options, ImageOptions(arguments, inference, prediction));
    options.progress = lines.Reporter();
    const int64_t step = checkpoint.manifest().step;
    if (config.model().has_dit()) return GenerateOfDit(arguments, options, path, config.model().dit(), step);
    return GenerateOfHunyuanDit(arguments, options, path, config, step);
  });
}

}  // namespace angel_ptm
