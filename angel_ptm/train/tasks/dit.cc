#include "angel_ptm/train/tasks/dit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/train/tasks/batch_sampler.h"
#include "angel_ptm/train/tasks/dit_conditions.h"
#include "angel_ptm/train/tasks/image_feeder.h"
#include "angel_ptm/train/tasks/image_samples.h"
#include "angel_ptm/train/tasks/latent_tensors.h"

namespace angel_ptm {
namespace {

// Fields that matter only before the first step, and sizes whose 0 stands for a value found elsewhere: a difference of
// those shows in the shapes of the parameters.
constexpr std::array<std::string_view, 5> kDitWithoutEffect = {
    "model.dit.initializer_range", "model.dit.text_vocab_size", "model.dit.width", "model.dit.intermediate_size",
    "model.dit.text_hidden_size"};
constexpr std::array<std::string_view, 5> kDitOfTheCurve = {"model.dit.condition_dropout", "model.dit.flow_time_mean",
                                                            "model.dit.flow_time_deviation", "model.dit.min_snr_gamma",
                                                            "model.dit.noise_offset"};

class DitTask final : public Task {
 public:
  DitTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states)
      : config_(config),
        dit_(WithDefaults(config.model().dit())),
        vocab_size_(vocab_size),
        shape_(DitShapeFromConfig(config.model(), vocab_size)),
        table_(DitParameters(shape_, std::move(states))) {}

  // `dataset` must have the vocabulary with which the task was made.
  absl::Status Open(ImageDataset dataset);

  const ParameterTable& parameters() const override { return *table_; }
  int64_t recomputable_blocks() const override { return shape_.blocks(); }
  Graph BuildTraining(const std::vector<bool>& recompute) const override {
    return BuildDitTraining(shape_, config_.batch().micro_batch_sequences(), recompute, table_);
  }
  Graph BuildEvaluation(StateId weights) const override {
    return BuildDitEvaluation(shape_, config_.batch().micro_batch_sequences(), table_, weights);
  }
  absl::StatusOr<Graph> BuildDecoding(int64_t, int64_t) const override {
    return absl::InvalidArgumentError("model.dit makes images, wanted a language model to continue a text");
  }

  std::optional<Graph> BuildSampling(int64_t, StateId weights) const override {
    if (config_.sampling().every_steps() == 0) return std::nullopt;
    return BuildDitForward(shape_, SamplingBatch().rows(), table_, weights);
  }

  std::string Describe() const override;
  ChangeableFields changeable_fields() const override { return {kDitWithoutEffect, kDitOfTheCurve}; }
  bool loss_depends_on_micro_batch() const override { return false; }

  int64_t vocab_size() const override { return vocab_size_; }
  const SampleSource* training_samples() const override { return training_ ? &*training_ : nullptr; }
  const SampleSource* validation_samples() const override { return validation_ ? &*validation_ : nullptr; }
  std::string sample_order() const override;
  std::string note() const override;
  std::vector<CheckpointFile> checkpoint_files() const override {
    return {{"tokenizer.json", dataset_.tokenizer_json},
            {"tokenizer_config.json", dataset_.tokenizer_config_json},
            {"images.json", dataset_.manifest.ToJson()}};
  }
  std::unique_ptr<Feeder> MakeFeeder(const Graph& graph, Executor& executor,
                                     const SampleSource& samples) const override {
    APTM_CHECK(&samples == training_samples() || &samples == validation_samples(), "samples of another task");
    return std::make_unique<ImageFeeder>(graph, executor, shape_, DitObjectiveFromConfig(dit_),
                                         static_cast<const ImageSource&>(samples));
  }
  std::unique_ptr<Sampler> MakeSampler(int64_t, const Graph& graph, Executor& executor) const override {
    const BatchOptions batch = SamplingBatch();
    return std::make_unique<RunSampler>(
        static_cast<int64_t>(prompts_.conditions.size()), batch, NoisyGrid(shape_), PredictionGrid(shape_),
        Denoiser{&graph, &executor},
        std::make_unique<DitConditions>(shape_, prompts_, /*samples_per_prompt=*/1, batch.rows()),
        [this](const std::string& folder, int64_t step, std::span<const float> samples) {
          return WriteSamples(folder, step, samples);
        });
  }
  std::vector<TaskNumber> LoadNumbers(const ExpertLoads&) const override { return {}; }
  std::vector<TaskNumber> LossNumbers(const Graph& training, const StepSums& sums) const override {
    return LossParts(training, sums);
  }
  std::vector<TaskNumber> EvaluationNumbers(const LossSums&) const override { return {}; }
  ExpertLoads ReadExpertLoads(const Graph&, const Executor&) const override { return {}; }

 private:
  absl::Status CheckDataset() const;
  absl::Status CheckPixels() const;
  // The latents of the images of `split`; null for a model of pixels.
  absl::StatusOr<std::unique_ptr<ImageLatents>> OpenLatents(const char* split, const ImageFile& images) const;
  absl::Status OpenSamples();
  absl::StatusOr<std::string> WriteSamples(const std::string& folder, int64_t step,
                                           std::span<const float> samples) const;
  BatchOptions SamplingBatch() const {
    return SamplingBatchFromConfig(config_, DitSampling(DitObjectiveFromConfig(dit_)),
                                   config_.sampling().prompt_size());
  }

  const TrainConfig config_;
  const DitConfig dit_;
  const int64_t vocab_size_;
  const DitShape shape_;
  const std::shared_ptr<const ParameterTable> table_;
  ImageDataset dataset_;
  std::unique_ptr<ImageLatents> training_latents_, validation_latents_;
  std::optional<ImageSource> training_, validation_;
  DitPrompts prompts_;  // those of sampling{}
};

absl::Status Differs(const TrainConfig& config, const char* field, const char* what, int64_t wanted, int64_t got) {
  return absl::InvalidArgumentError(absl::StrCat("model.dit.", field, ": the images of ", config.data().directory(),
                                                 " have ", what, ", wanted ", wanted, ", got ", got));
}

absl::Status DitTask::CheckPixels() const {
  const ImageFileShape& images = dataset_.manifest.shape;
  if (dit_.channels() != images.channels) {
    return Differs(config_, "channels", "another number of channels", images.channels, dit_.channels());
  }
  if (dit_.height() > images.height) return Differs(config_, "height", "fewer pixels", images.height, dit_.height());
  if (dit_.width() > images.width) return Differs(config_, "width", "fewer pixels", images.width, dit_.width());
  return absl::OkStatus();
}

// Checks that the model suits these images.
absl::Status DitTask::CheckDataset() const {
  const ImageManifest& manifest = dataset_.manifest;
  if (!dit_.latents()) RETURN_IF_ERROR(CheckPixels());
  const auto classes = static_cast<int64_t>(manifest.classes.size());
  if (dit_.class_count() > 0 && dit_.class_count() != classes) {
    return Differs(config_, "class_count", "another number of classes", classes, dit_.class_count());
  }
  if (shape_.reads_captions() && shape_.text_vocab_size < dataset_.tokenizer->vocabulary_size()) {
    return Differs(config_, "text_vocab_size", "captions of a larger tokenizer", dataset_.tokenizer->vocabulary_size(),
                   shape_.text_vocab_size);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ImageLatents>> DitTask::OpenLatents(const char* split, const ImageFile& images) const {
  if (!dit_.latents()) return std::unique_ptr<ImageLatents>();
  const std::string path = absl::StrCat(config_.data().directory(), "/", split, "-latents.safetensors");
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) {
    return absl::NotFoundError(absl::StrCat("model.dit.latents: there is no ", path,
                                            ", wanted what angel-ptm encode --images ", config_.data().directory(),
                                            " --split ", split, " --autoencoder DIR --output ", path, " makes"));
  }
  return ImageLatents::Open(path, {dit_.channels(), dit_.height(), dit_.width()}, images);
}

absl::Status DitTask::Open(ImageDataset dataset) {
  dataset_ = std::move(dataset);
  RETURN_IF_ERROR(CheckDataset());
  ImageLoaderOptions options{.global_batch = config_.batch().global_batch_sequences(),
                             .micro_batch = config_.batch().micro_batch_sequences(),
                             .seed = config_.seed(),
                             .height = dit_.latents() ? 0 : static_cast<int32_t>(dit_.height()),
                             .width = dit_.latents() ? 0 : static_cast<int32_t>(dit_.width()),
                             .flip_probability = dit_.flip_probability(),
                             .caption_tokens = static_cast<int32_t>(std::max<int64_t>(1, dit_.text_length())),
                             .pad = kPadId,
                             .other_captions = dit_.other_captions()};
  ASSIGN_OR_RETURN(const ImageLoader training, ImageLoader::Create(dataset_.train.get(), options));
  ASSIGN_OR_RETURN(training_latents_, OpenLatents("train", *dataset_.train));
  training_.emplace(training, /*evaluation=*/false, training_latents_.get());
  RETURN_IF_ERROR(OpenSamples());
  if (config_.evaluation().every_steps() == 0) return absl::OkStatus();
  if (dataset_.validation == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("evaluation.every_steps: ", config_.data().directory(),
                                                   " has no validation images, wanted 0, got ",
                                                   config_.evaluation().every_steps()));
  }
  options.evaluation_samples = config_.evaluation().sequences();
  ASSIGN_OR_RETURN(const ImageLoader validation, ImageLoader::Create(dataset_.validation.get(), options));
  ASSIGN_OR_RETURN(validation_latents_, OpenLatents("validation", *dataset_.validation));
  validation_.emplace(validation, /*evaluation=*/true, validation_latents_.get());
  return absl::OkStatus();
}

absl::Status DitTask::OpenSamples() {
  if (config_.sampling().every_steps() == 0) return absl::OkStatus();
  if (!dit_.latents() && !HasImageLibraries()) {
    return absl::UnimplementedError(
        absl::StrCat("sampling.every_steps: this build has no libpng and FreeType to write images with, wanted 0, got ",
                     config_.sampling().every_steps()));
  }
  const auto& asked = config_.sampling().prompt();
  const std::vector<std::string> prompts(asked.begin(), asked.end());
  ASSIGN_OR_RETURN(prompts_, ReadDitPrompts(shape_, *dataset_.tokenizer, dataset_.manifest.classes, prompts,
                                            std::vector<NegativePrompt>(prompts.size()), "sampling.prompt"));
  return absl::OkStatus();
}

absl::StatusOr<std::string> DitTask::WriteSamples(const std::string& folder, int64_t step,
                                                  std::span<const float> samples) const {
  if (dit_.latents()) {
    std::vector<int64_t> prompts(prompts_.conditions.size());
    std::iota(prompts.begin(), prompts.end(), int64_t{0});
    SamplingFacts facts = FactsOfSamples(config_, step, SamplingBatch());
    facts.prompts.assign(config_.sampling().prompt().begin(), config_.sampling().prompt().end());
    RETURN_IF_ERROR(MakeDirectories(folder));
    RETURN_IF_ERROR(WriteSampledLatents(folder + "/latents.safetensors", NoisyGrid(shape_), prompts,
                                        /*samples_per_prompt=*/1, samples, facts));
    return std::string();
  }
  std::vector<GeneratedImage> images;
  const auto pixels = static_cast<size_t>(NoisyGrid(shape_).elements());
  for (size_t i = 0; i < prompts_.conditions.size(); ++i) {
    const bool conditioned = config_.sampling().prompt_size() > 0;
    images.push_back({conditioned ? config_.sampling().prompt(static_cast<int>(i)) : "",
                      DitImage(shape_, samples.subspan(i * pixels, pixels))});
  }
  return WriteImages(folder, FactsOfSamples(config_, step, SamplingBatch()), std::move(images));
}

std::string DitTask::Describe() const {
  return absl::StrCat(shape_.num_hidden_layers, " layers, ", shape_.channels, " x ", shape_.height, " x ", shape_.width,
                      dit_.latents() ? " latents in " : " pixels in ", shape_.tokens(), " patches, ",
                      shape_.reads_captions()  ? absl::StrCat("captions of ", shape_.text_length, " tokens")
                      : shape_.reads_classes() ? absl::StrCat(shape_.class_count, " classes")
                                               : "unconditional");
}

std::string DitTask::note() const {
  std::vector<std::string> notes = prompts_.notes;
  const int64_t longest = dataset_.manifest.caption_tokens_max;
  if (shape_.reads_captions() && longest > shape_.text_length) {
    notes.push_back(absl::StrCat("the longest caption of ", config_.data().directory(), " has ", longest,
                                 " tokens, of which the model reads the first ", shape_.text_length,
                                 " (model.dit.text_length)"));
  }
  return absl::StrJoin(notes, "; ");
}

std::string DitTask::sample_order() const {
  return absl::StrCat(
      training_->loader().Describe(),
      training_latents_ == nullptr ? "" : absl::StrCat(", latents ", ChecksumText(training_latents_->digest())),
      ", noise of seed ", config_.seed());
}

}  // namespace

DitShape DitShapeFromConfig(const ModelConfig& config, int64_t vocab_size) {
  const DitConfig c = WithDefaults(config.dit());
  DitShape shape{.channels = c.channels(),
                 .height = c.height(),
                 .width = c.width(),
                 .patch_size = c.patch_size(),
                 .hidden_size = c.hidden_size(),
                 .intermediate_size = c.intermediate_size(),
                 .num_hidden_layers = c.num_hidden_layers(),
                 .num_attention_heads = c.num_attention_heads(),
                 .rope_theta = c.rope_theta(),
                 .initializer_range = static_cast<float>(c.initializer_range()),
                 .class_count = c.class_count(),
                 .learn_variance = c.variance_weight() > 0,
                 .freeze = {config.freeze().begin(), config.freeze().end()}};
  if (c.text_length() == 0) return shape;
  shape.text_vocab_size = c.text_vocab_size() > 0 ? c.text_vocab_size() : vocab_size;
  shape.text_length = c.text_length();
  shape.text_hidden_size = c.text_hidden_size();
  shape.text_num_hidden_layers = c.text_num_hidden_layers();
  shape.text_num_attention_heads = c.text_num_attention_heads();
  return shape;
}

Prediction PredictionFromConfig(DitConfig::Prediction prediction) {
  switch (prediction) {
    case DitConfig::EPSILON:
      return Prediction::kEpsilon;
    case DitConfig::VELOCITY:
      return Prediction::kVelocity;
    case DitConfig::FLOW:
      break;
  }
  return Prediction::kFlow;
}

DitObjective DitObjectiveFromConfig(const DitConfig& config) {
  return {.prediction = PredictionFromConfig(config.prediction()),
          .flow_time_mean = config.flow_time_mean(),
          .flow_time_deviation = config.flow_time_deviation(),
          .flow_shift = config.flow_shift(),
          .beta_start = config.beta_start(),
          .beta_end = config.beta_end(),
          .min_snr_gamma = config.min_snr_gamma(),
          .condition_dropout = config.condition_dropout(),
          .noise_offset = config.noise_offset(),
          .variance_weight = config.variance_weight()};
}

void FillBound(const DiffusionSchedule& schedule, Prediction prediction, int64_t t, double weight,
               std::span<float> bound) {
  APTM_CHECK(bound.size() == kBoundColumns, bound.size());
  const StepBound step = BoundAt(schedule, prediction, t);
  bound[kBoundWeight] = static_cast<float>(weight / std::numbers::ln2);
  bound[kBoundLogLeast] = static_cast<float>(step.log_least);
  bound[kBoundLogRange] = static_cast<float>(step.log_range);
  bound[kBoundError] = static_cast<float>(step.of_error);
  bound[kBoundDecoded] = step.decoded ? 1 : 0;
}

std::vector<TaskNumber> LossParts(const Graph& training, const StepSums& sums) {
  if (training.ops[training.loss].kind != OpKind::kHybridLoss) return {};
  const double mse = sums.loss_first / sums.weight, bound = (sums.loss - sums.loss_first) / sums.weight;
  return {{"loss_mse", mse, absl::StrFormat("mse %.4f", mse)},
          {"loss_bound", bound, absl::StrFormat("bound %.4f", bound)}};
}

SamplingOptions DitSampling(const DitObjective& objective) {
  return {.prediction = objective.prediction,
          .method = DefaultMethod(objective.prediction),
          .flow_shift = objective.flow_shift,
          .beta_start = objective.beta_start,
          .beta_end = objective.beta_end,
          .learned_variance = objective.variance_weight > 0};
}

DitConfig ScaledDit(const DitConfig& model, ScaleAxis axis, int64_t steps) {
  DitConfig scaled = model;
  if (axis == ScaleAxis::kDepth) {
    scaled.set_num_hidden_layers(steps);
    return scaled;
  }
  // Sizes of captions default to those of the image stream, so set them to the current ones.
  if (model.text_length() > 0 && model.text_hidden_size() == 0) scaled.set_text_hidden_size(model.hidden_size());
  if (model.text_length() > 0 && model.text_num_attention_heads() == 0) {
    scaled.set_text_num_attention_heads(model.num_attention_heads());
  }
  scaled.set_num_attention_heads(steps);
  scaled.set_hidden_size(model.hidden_size() / model.num_attention_heads() * steps);
  if (model.intermediate_size() > 0) {
    constexpr double kMultiple = 16;
    const double inner = static_cast<double>(model.intermediate_size()) / static_cast<double>(model.hidden_size());
    scaled.set_intermediate_size(static_cast<int64_t>(
        std::max(1.0, std::round(inner * static_cast<double>(scaled.hidden_size()) / kMultiple)) * kMultiple));
  }
  return scaled;
}

std::unique_ptr<Task> MakeDitTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states) {
  return std::make_unique<DitTask>(config, vocab_size, std::move(states));
}

absl::StatusOr<std::unique_ptr<Task>> OpenDitTask(const TrainConfig& config) {
  ASSIGN_OR_RETURN(ImageDataset dataset, OpenImageDataset(config.data().directory()));
  auto task = std::make_unique<DitTask>(config, dataset.tokenizer->vocabulary_size(), std::vector{ParameterState()});
  RETURN_IF_ERROR(task->Open(std::move(dataset)));
  return std::unique_ptr<Task>(std::move(task));
}

}  // namespace angel_ptm
