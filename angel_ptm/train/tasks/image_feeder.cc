#include "angel_ptm/train/tasks/image_feeder.h"

#include <algorithm>

#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/train/diffusion/noise.h"

namespace angel_ptm {
namespace {

// Seed of the noise and times of evaluations.
constexpr uint64_t kEvaluationSeed = 0x65766c75;

}  // namespace

ImageFeeder::ImageFeeder(const Graph& graph, Executor& executor, const DitShape& shape, const DitObjective& objective,
                         const ImageSource& source)
    : executor_(executor),
      shape_(shape),
      objective_(objective),
      source_(source),
      schedule_(DiffusionSchedule::ScaledLinear(kDiffusionSteps, objective.beta_start, objective.beta_end)),
      grid_{shape.channels, shape.height, shape.width, shape.patch_size},
      seed_(source.evaluation() ? kEvaluationSeed : source.loader().options().seed),
      noisy_tensor_(graph.FindTensor("noisy")),
      target_tensor_(graph.FindTensor("target")),
      time_tensor_(graph.FindTensor("time_features")),
      cos_sin_tensor_(graph.FindTensor("cos_sin")),
      sample_weight_tensor_(graph.FindTensor("sample_weight")),
      weight_tensor_(graph.FindTensor("weight")) {
  const auto batch = static_cast<size_t>(source.loader().options().micro_batch);
  const auto pixels = static_cast<size_t>(grid_.elements());
  for (std::vector<float>* buffer : {&images_, &noisy_, &target_}) buffer->resize(batch * pixels);
  for (std::vector<float>* buffer : {&noise_, &mixed_}) buffer->resize(pixels);
  time_features_.resize(batch * kTimeFeatures);
  sample_weight_.resize(batch);
  for (std::vector<int64_t>* buffer : {&samples_, &numbers_}) buffer->resize(batch);
  if (source.latents() != nullptr) scratch_.resize(pixels);
  cos_sin_.resize(static_cast<size_t>(shape.tokens() * shape.head_dim()));
  RopeTable2d(shape.grid_height(), shape.grid_width(), shape.head_dim(), shape.rope_theta, cos_sin_);
  if (shape.learn_variance) {
    clean_tensor_ = graph.FindTensor("clean");
    bound_tensor_ = graph.FindTensor("bound");
    clean_.resize(batch * pixels);
    bound_.resize(batch * kBoundColumns);
  }
  if (shape.reads_captions()) {
    tokens_tensor_ = graph.FindTensor("tokens");
    token_counts_tensor_ = graph.FindTensor("token_counts");
    tokens_.resize(batch * static_cast<size_t>(shape.text_length));
    token_counts_.resize(batch);
  } else if (shape.reads_classes()) {
    class_ids_tensor_ = graph.FindTensor("class_ids");
    class_ids_.resize(batch);
  }
}

void ImageFeeder::DropCondition(int64_t row) {
  if (shape_.reads_captions()) {
    tokens_[row * shape_.text_length] = static_cast<int32_t>(shape_.text_vocab_size);
    token_counts_[row] = 1;
  } else if (shape_.reads_classes()) {
    class_ids_[row] = static_cast<int32_t>(shape_.class_count);
  }
}

void ImageFeeder::MakeNoisy(int64_t row, int64_t sample) {
  const auto pixels = static_cast<size_t>(grid_.elements()), at = static_cast<size_t>(row) * pixels;
  const std::span<const float> clean(images_.data() + at, pixels);
  const Prediction prediction = objective_.prediction;
  Mix mix;
  double time = 0;
  if (prediction == Prediction::kFlow) {
    const double t = TrainingFlowTime(seed_, sample, objective_.flow_time_mean, objective_.flow_time_deviation,
                                      objective_.flow_shift);
    mix = FlowMix(t);
    time = t * kDiffusionSteps;
    sample_weight_[row] = 1;
  } else {
    const int64_t t = TrainingTime(seed_, sample, kDiffusionSteps);
    mix = schedule_.At(t);
    time = static_cast<double>(t);
    sample_weight_[row] = static_cast<float>(MinSnrWeight(prediction, mix.snr(), objective_.min_snr_gamma));
    if (shape_.learn_variance) {
      ToPatches(grid_, clean, {clean_.data() + at, pixels});
      FillBound(schedule_, prediction, t, objective_.variance_weight,
                {bound_.data() + row * kBoundColumns, kBoundColumns});
    }
  }
  FillNormal({.seed = seed_, .purpose = NoisePurpose::kTrainingNoise, .sample = sample}, noise_);
  AddNoiseOffset(seed_, sample, grid_.channels, objective_.noise_offset, noise_);
  AddNoise(mix, clean, noise_, mixed_);
  ToPatches(grid_, mixed_, {noisy_.data() + at, pixels});
  PredictionTarget(prediction, mix, clean, noise_, mixed_);
  ToPatches(grid_, mixed_, {target_.data() + at, pixels});
  TimeFeatures(time, {time_features_.data() + row * kTimeFeatures, kTimeFeatures});
  if (!source_.evaluation() && DropsCondition(seed_, sample, /*text_stream=*/0, objective_.condition_dropout)) {
    DropCondition(row);
  }
}

void ImageFeeder::ClearRow(int64_t row) {
  const auto pixels = grid_.elements();
  std::fill_n(noisy_.begin() + row * pixels, pixels, 0.0f);
  std::fill_n(target_.begin() + row * pixels, pixels, 0.0f);
  std::fill_n(time_features_.begin() + row * kTimeFeatures, kTimeFeatures, 0.0f);
  sample_weight_[row] = 0;
  if (shape_.learn_variance) {
    std::fill_n(clean_.begin() + row * pixels, pixels, 0.0f);
    std::fill_n(bound_.begin() + row * kBoundColumns, kBoundColumns, 0.0f);
  }
  DropCondition(row);
}

absl::Status ImageFeeder::ReadLatents() {
  const auto pixels = static_cast<size_t>(grid_.elements());
  for (size_t row = 0; row < numbers_.size(); ++row) {
    if (numbers_[row] < 0) continue;
    RETURN_IF_ERROR(source_.latents()->Read(numbers_[row], std::span(images_).subspan(row * pixels, pixels), scratch_));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> ImageFeeder::Feed(const MicroBatchPosition& position) {
  const bool latents = source_.latents() != nullptr;
  ASSIGN_OR_RETURN(const int64_t rows,
                   source_.loader().FillMicroBatch(position, {.images = latents ? std::span<float>() : images_,
                                                              .tokens = tokens_,
                                                              .token_counts = token_counts_,
                                                              .class_ids = class_ids_,
                                                              .style_ids = {},
                                                              .samples = samples_,
                                                              .numbers = numbers_}));
  if (latents) RETURN_IF_ERROR(ReadLatents());
  weight_ = static_cast<float>(rows);
  for (int64_t row = 0; row < static_cast<int64_t>(samples_.size()); ++row) {
    if (samples_[row] < 0) {
      ClearRow(row);
      continue;
    }
    if (shape_.reads_captions() ? token_counts_[row] == 0 : shape_.reads_classes() && class_ids_[row] < 0) {
      DropCondition(row);
    }
    MakeNoisy(row, samples_[row]);
  }
  Write();
  return 0.0;
}

void ImageFeeder::Write() {
  executor_.WriteInput(noisy_tensor_, noisy_.data());
  executor_.WriteInput(target_tensor_, target_.data());
  executor_.WriteInput(time_tensor_, time_features_.data());
  executor_.WriteInput(cos_sin_tensor_, cos_sin_.data());
  executor_.WriteInput(sample_weight_tensor_, sample_weight_.data());
  executor_.WriteInput(weight_tensor_, &weight_);
  if (bound_tensor_ != kNone) {
    executor_.WriteInput(clean_tensor_, clean_.data());
    executor_.WriteInput(bound_tensor_, bound_.data());
  }
  if (tokens_tensor_ != kNone) {
    executor_.WriteInput(tokens_tensor_, tokens_.data());
    executor_.WriteInput(token_counts_tensor_, token_counts_.data());
  }
  if (class_ids_tensor_ != kNone) executor_.WriteInput(class_ids_tensor_, class_ids_.data());
}

}  // namespace angel_ptm
