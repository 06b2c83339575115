#include "angel_ptm/train/tasks/generate_latents.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

absl::Status CheckControlScale(std::optional<double> scale, const HunyuanDitShape& shape) {
  if (!scale) return absl::OkStatus();
  if (!shape.control) {
    return absl::InvalidArgumentError(
        "--control-scale: the checkpoint's model reads no condition, wanted one of model.hunyuan_dit.control");
  }
  if (*scale >= 0 && std::isfinite(*scale)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--control-scale: wanted a finite number of 0 or more, got ", *scale));
}

// The model for latents of the requested size, if one is given.
absl::StatusOr<HunyuanDitShape> Resized(HunyuanDitShape shape, const std::optional<std::string>& size) {
  if (!size) return shape;
  const std::optional<LatentSize> asked = ParseLatentSize(*size);
  if (!asked || asked->height % shape.patch_size != 0 || asked->width % shape.patch_size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--size: wanted HEIGHTxWIDTH in multiples of ", shape.patch_size,
                                                   ", each at most ", kLatentSideMax, ", got \"", *size, "\""));
  }
  shape.height = asked->height;
  shape.width = asked->width;
  return shape;
}

// Sample numbers; kNone for an empty text.
absl::StatusOr<std::vector<int64_t>> ReadNegatives(const std::vector<NegativePrompt>& asked, const LatentFile& file) {
  std::vector<int64_t> negatives;
  for (const auto& [text, field] : asked) {
    negatives.push_back(kNone);
    if (text.empty()) continue;
    ASSIGN_OR_RETURN(const std::vector<int64_t> number, ReadSampleNumbers({text}, file, field));
    negatives.back() = number[0];
  }
  return negatives;
}

// Where texts are read from if no file is given.
std::string TrainingSamples(const TrainConfig& config, const std::optional<std::string>& size) {
  const auto& buckets = config.model().hunyuan_dit().bucket();
  const bool is_bucket = size && std::ranges::find(buckets, *size) != buckets.end();
  return absl::StrCat(config.data().directory(), "/train", is_bucket ? "-" + *size : "", ".safetensors");
}

}  // namespace

LatentConditions::LatentConditions(const HunyuanDitShape& shape, const LatentFile& file, std::vector<int64_t> prompts,
                                   int64_t samples_per_prompt, int64_t rows, double control_scale,
                                   std::vector<int64_t> negatives)
    : file_(file),
      prompts_(std::move(prompts)),
      negatives_(std::move(negatives)),
      samples_per_prompt_(samples_per_prompt),
      rows_(rows),
      inputs_(shape, rows, file.scratch_elements()),
      control_scale_(shape.control ? static_cast<size_t>(shape.hidden_size) : 0, static_cast<float>(control_scale)) {}

absl::Status LatentConditions::SetRow(int64_t row, int64_t sample) {
  LatentSample texts = inputs_.Row(row);
  texts.latent = {};
  RETURN_IF_ERROR(file_.Read(prompts_[static_cast<size_t>(sample / samples_per_prompt_)], /*empty_clip=*/false,
                             /*empty_t5=*/false, texts));
  inputs_.Finish(row, /*time=*/0);
  return absl::OkStatus();
}

absl::Status LatentConditions::SetAway(int64_t row, int64_t sample) {
  const auto prompt = static_cast<size_t>(sample / samples_per_prompt_);
  const int64_t negative = negatives_.empty() ? kNone : negatives_[prompt];
  LatentSample texts = inputs_.Row(row);
  texts.latent = {};
  RETURN_IF_ERROR(file_.Read(prompts_[prompt], /*empty_clip=*/true, /*empty_t5=*/true, texts));
  // Take only the texts of the negative.
  texts.condition = texts.sizes = {};
  if (negative != kNone) RETURN_IF_ERROR(file_.Read(negative, /*empty_clip=*/false, /*empty_t5=*/false, texts));
  inputs_.Finish(row, /*time=*/0);
  return absl::OkStatus();
}

void LatentConditions::Write(double time, const Graph& graph, Executor& executor) {
  for (int64_t row = 0; row < rows_; ++row) inputs_.SetTime(row, time);
  inputs_.Write(graph, executor);
  if (!control_scale_.empty()) executor.WriteInput(graph.FindTensor("control_scale"), control_scale_.data());
}

absl::StatusOr<std::vector<int64_t>> ReadSampleNumbers(const std::vector<std::string>& prompts, const LatentFile& file,
                                                       const std::string& field) {
  if (prompts.empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is missing"));
  std::vector<int64_t> numbers;
  for (const std::string& prompt : prompts) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(prompt, &number) || number < 0 || number >= file.count()) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": wanted the number of a sample in ", file.path(),
                                                     ", 0 to ", file.count() - 1, ", got \"", prompt, "\""));
    }
    numbers.push_back(number);
  }
  return numbers;
}

SamplingOptions HunyuanSampling(const HunyuanDitConfig& config) {
  const Prediction prediction = PredictionFromConfig(config.prediction());
  return {.prediction = prediction,
          .method = DefaultMethod(prediction),
          .beta_start = config.beta_start(),
          .beta_end = config.beta_end(),
          .learned_variance = config.variance_weight() > 0};
}

absl::StatusOr<BatchOptions> LatentBatch(const TrainConfig& config, const GenerateImagesOptions& options) {
  BatchOptions batch{.sampling = HunyuanSampling(config.model().hunyuan_dit())};
  const char* const unguided = CanBeGuided(config.model()) ? "" : "with clip_dropout or t5_dropout = 0";
  RETURN_IF_ERROR(ApplyTo(options, unguided, batch));
  const HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
  RETURN_IF_ERROR(Resized(shape, options.size).status());
  RETURN_IF_ERROR(CheckControlScale(options.control_scale, shape));
  return batch;
}

absl::StatusOr<int64_t> GenerateLatents(const std::string& checkpoint_path, const std::string& texts,
                                        const GenerateImagesOptions& options, const std::string& output) {
  ASSIGN_OR_RETURN(CheckpointReader checkpoint, CheckpointReader::Open(checkpoint_path));
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(checkpoint, &note));
  if (!note.empty() && options.notes != nullptr) std::fprintf(options.notes, "note: %s\n", note.c_str());
  ASSIGN_OR_RETURN(BatchOptions batch, LatentBatch(config, options));
  ASSIGN_OR_RETURN(const HunyuanDitShape shape, Resized(HunyuanDitShapeFromConfig(config.model()), options.size));
  const std::string path = texts.empty() ? TrainingSamples(config, options.size) : texts;
  ASSIGN_OR_RETURN(const std::unique_ptr<LatentFile> file, LatentFile::OpenTexts(path, shape));
  ASSIGN_OR_RETURN(const std::vector<int64_t> prompts, ReadSampleNumbers(options.prompts, *file, "--prompt"));
  ASSIGN_OR_RETURN(std::vector<int64_t> negatives, ReadNegatives(NegativesOf(options), *file));
  const int64_t count = static_cast<int64_t>(prompts.size()) * options.images_per_prompt;
  batch.batch = std::min(count, std::max<int64_t>(1, options.batch_max));
  const auto table = HunyuanDitParameters(shape, {ParameterState(ComputeType(config))});
  const auto build = [&] { return BuildHunyuanDitForward(shape, batch.rows(), table); };
  ASSIGN_OR_RETURN(const Denoisers denoisers,
                   Denoisers::Load(checkpoint, config, options.experts, build, options.inference,
                                   absl::StrCat("weights and ", batch.rows(), " latents side by side")));
  LatentConditions conditions(shape, *file, prompts, options.images_per_prompt, batch.rows(),
                              options.control_scale.value_or(1), std::move(negatives));
  BatchSampler sampler(batch, NoisyGrid(shape), PredictionGrid(shape), denoisers.all(), conditions);
  std::vector<float> latents;
  const auto take = [&](int64_t, std::span<const float> latent) {
    latents.insert(latents.end(), latent.begin(), latent.end());
  };
  RETURN_IF_ERROR(sampler.MakeAll(count, take, options.progress));
  const SamplingFacts facts{
      .step = checkpoint.manifest().step,
      .weights = options.inference.weights,
      .sampler = Name(batch.sampling.method),
      .steps = options.steps,
      .guidance = options.guidance,
      .seed = options.seed,
      .control_scale = shape.control ? std::optional(options.control_scale.value_or(1)) : std::nullopt};
  RETURN_IF_ERROR(WriteSampledLatents(output, NoisyGrid(shape), prompts, options.images_per_prompt, latents, facts));
  return count;
}

}  // namespace angel_ptm
