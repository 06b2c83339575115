#include "angel_ptm/train/tasks/generate_images.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/train/tasks/batch_sampler.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/dit_conditions.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

class ImageGenerator {
 public:
  explicit ImageGenerator(const GenerateImagesOptions& options) : options_(options) {}

  absl::Status Load(const std::string& checkpoint_path);
  absl::StatusOr<std::vector<GeneratedImage>> MakeImages();
  absl::StatusOr<int64_t> MakeLatents(const std::string& output);

 private:
  absl::StatusOr<DitPrompts> ReadPrompts(const CheckpointReader& checkpoint, const Tokenizer& tokenizer) const;
  void Say(const char* what, const std::string& sentence) const {
    if (options_.notes != nullptr) std::fprintf(options_.notes, "%s: %s\n", what, sentence.c_str());
  }

  const GenerateImagesOptions& options_;
  DitShape shape_;
  int64_t step_ = 0;  // the checkpoint's
  BatchOptions batch_;
  int64_t images_ = 0;
  Denoisers denoisers_;
  std::unique_ptr<DitConditions> conditions_;
  std::unique_ptr<BatchSampler> sampler_;
};

absl::StatusOr<DitPrompts> ImageGenerator::ReadPrompts(const CheckpointReader& checkpoint,
                                                       const Tokenizer& tokenizer) const {
  ASSIGN_OR_RETURN(const std::string json, checkpoint.ReadCopiedFile("images.json"));
  ASSIGN_OR_RETURN(const ImageManifest manifest, ImageManifest::FromJson(json, checkpoint.path() + "/images.json"));
  return ReadDitPrompts(shape_, tokenizer, manifest.classes, options_.prompts, NegativesOf(options_), "--prompt");
}

absl::Status ImageGenerator::Load(const std::string& checkpoint_path) {
  ASSIGN_OR_RETURN(CheckpointReader checkpoint, CheckpointReader::Open(checkpoint_path));
  step_ = checkpoint.manifest().step;
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(checkpoint, &note));
  if (!note.empty()) Say("note", note);
  if (!config.model().has_dit()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint_path, " is no model of images, wanted one of model.dit"));
  }
  ASSIGN_OR_RETURN(const std::string json, checkpoint.ReadCopiedFile("tokenizer.json"));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromJson(json, checkpoint_path + "/tokenizer.json"));
  shape_ = DitShapeFromConfig(config.model(), tokenizer->vocabulary_size());
  std::string unguided;
  if (!CanBeGuided(config.model())) {
    const bool conditioned = shape_.reads_captions() || shape_.reads_classes();
    unguided = conditioned ? "with condition_dropout = 0" : "without captions or classes";
  }
  batch_ = {.sampling = DitSampling(DitObjectiveFromConfig(config.model().dit()))};
  RETURN_IF_ERROR(ApplyTo(options_, unguided, batch_));
  ASSIGN_OR_RETURN(DitPrompts prompts, ReadPrompts(checkpoint, *tokenizer));
  for (const std::string& sentence : prompts.notes) Say("warning", sentence);
  images_ = static_cast<int64_t>(prompts.conditions.size()) * options_.images_per_prompt;
  batch_.batch = std::min(images_, std::max<int64_t>(1, options_.batch_max));
  const auto table = DitParameters(shape_, {ParameterState(ComputeType(config))});
  const auto build = [&] { return BuildDitForward(shape_, batch_.rows(), table); };
  ASSIGN_OR_RETURN(denoisers_, Denoisers::Load(checkpoint, config, options_.experts, build, options_.inference,
                                               absl::StrCat("weights and ", batch_.rows(), " images side by side")));
  conditions_ = std::make_unique<DitConditions>(shape_, std::move(prompts), options_.images_per_prompt, batch_.rows());
  sampler_ =
      std::make_unique<BatchSampler>(batch_, NoisyGrid(shape_), PredictionGrid(shape_), denoisers_.all(), *conditions_);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GeneratedImage>> ImageGenerator::MakeImages() {
  std::vector<GeneratedImage> made;
  const auto take = [&](int64_t number, std::span<const float> planes) {
    const auto prompt = static_cast<size_t>(number / options_.images_per_prompt);
    made.push_back({options_.prompts.empty() ? "" : options_.prompts[prompt], DitImage(shape_, planes)});
    if (!options_.own_seeds.empty()) made.back().seed = options_.own_seeds[prompt];
  };
  RETURN_IF_ERROR(sampler_->MakeAll(images_, take, options_.progress));
  return made;
}

absl::StatusOr<int64_t> ImageGenerator::MakeLatents(const std::string& output) {
  std::vector<float> latents;
  const auto take = [&](int64_t, std::span<const float> latent) {
    latents.insert(latents.end(), latent.begin(), latent.end());
  };
  RETURN_IF_ERROR(sampler_->MakeAll(images_, take, options_.progress));
  std::vector<int64_t> prompts(static_cast<size_t>(images_ / options_.images_per_prompt));
  std::iota(prompts.begin(), prompts.end(), int64_t{0});
  const SamplingFacts facts{.step = step_,
                            .weights = options_.inference.weights,
                            .sampler = Name(batch_.sampling.method),
                            .steps = options_.steps,
                            .guidance = options_.guidance,
                            .seed = options_.seed,
                            .prompts = options_.prompts};
  RETURN_IF_ERROR(WriteSampledLatents(output, NoisyGrid(shape_), prompts, options_.images_per_prompt, latents, facts));
  return images_;
}

}  // namespace

std::vector<NegativePrompt> NegativesOf(const GenerateImagesOptions& options) {
  std::vector<NegativePrompt> negatives(options.prompts.size(), {options.negative_prompt, "--negative-prompt"});
  for (size_t i = 0; i < options.own_negatives.size(); ++i) {
    if (!options.own_negatives[i]) continue;
    negatives[i] = {*options.own_negatives[i], absl::StrCat("the \"negative\" of prompt ", i + 1)};
  }
  return negatives;
}

absl::Status ApplyTo(const GenerateImagesOptions& options, const std::string& unguided, BatchOptions& batch) {
  batch.sampling.method = options.method.value_or(batch.sampling.method);
  batch.sampling.steps = options.steps;
  batch.sampling.seed = options.seed;
  batch.guidance = options.guidance;
  RETURN_IF_ERROR(CheckBatchOptions(batch, "--"));
  if (options.images_per_prompt < 1 || options.images_per_prompt > (1 << 20)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--images: wanted 1 to ", 1 << 20, ", got ", options.images_per_prompt));
  }
  std::vector<NegativePrompt> negatives = NegativesOf(options);
  negatives.push_back({options.negative_prompt, "--negative-prompt"});  // counts for a model without prompts, too
  const auto negative = std::ranges::find_if(negatives, [](const NegativePrompt& n) { return !n.text.empty(); });
  if (!unguided.empty() && negative != negatives.end()) {
    return absl::InvalidArgumentError(absl::StrCat(negative->field, ": the model was trained ", unguided,
                                                   ", wanted none, got \"", negative->text, "\""));
  }
  if (!batch.guided() && negative != negatives.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--guidance: 1 leads away from nothing, wanted another for the negative prompt \"", negative->text, "\""));
  }
  if (!unguided.empty() && batch.guided()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--guidance: the model was trained ", unguided, ", wanted 1, got ", options.guidance));
  }
  for (const std::optional<uint64_t>& own : options.own_seeds) {
    for (int64_t k = 0; k < options.images_per_prompt; ++k) {
      const auto number = static_cast<int64_t>(batch.noise.size());
      batch.noise.push_back(own ? SampleNoise{*own, k} : SampleNoise{options.seed, number});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GeneratedImage>> GenerateImages(const std::string& checkpoint_path,
                                                           const GenerateImagesOptions& options) {
  ImageGenerator generator(options);
  RETURN_IF_ERROR(generator.Load(checkpoint_path));
  return generator.MakeImages();
}

absl::StatusOr<int64_t> GenerateDitLatents(const std::string& checkpoint_path, const GenerateImagesOptions& options,
                                           const std::string& output) {
  ImageGenerator generator(options);
  RETURN_IF_ERROR(generator.Load(checkpoint_path));
  return generator.MakeLatents(output);
}

}  // namespace angel_ptm
