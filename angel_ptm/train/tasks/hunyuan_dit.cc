#include "angel_ptm/train/tasks/hunyuan_dit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/generate_latents.h"
#include "angel_ptm/train/tasks/image_samples.h"
#include "angel_ptm/train/tasks/latents.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

// Seed of the noise and times of evaluations.
constexpr uint64_t kLatentEvaluationSeed = 0x6c617465;
constexpr uint32_t kClipStream = 0, kT5Stream = 1;

// Sizes whose 0 stands for a value found elsewhere: a difference shows in the parameters' shapes and the samples.
constexpr std::array<std::string_view, 2> kHunyuanWithoutEffect = {"model.hunyuan_dit.width",
                                                                   "model.hunyuan_dit.intermediate_size"};
constexpr std::array<std::string_view, 5> kHunyuanOfTheCurve = {
    "model.hunyuan_dit.clip_dropout", "model.hunyuan_dit.t5_dropout", "model.hunyuan_dit.min_snr_gamma",
    "model.hunyuan_dit.noise_offset", "model.hunyuan_dit.variance_weight"};

// Its buffers are made once.
class LatentFeeder final : public Feeder {
 public:
  // `graph` is a training or evaluation graph and `executor` is bound to it. Nothing is owned.
  LatentFeeder(const Graph& graph, Executor& executor, const HunyuanDitShape& shape, const HunyuanDitConfig& config,
               const LatentSource& source)
      : graph_(graph),
        executor_(executor),
        config_(config),
        source_(source),
        schedule_(DiffusionSchedule::ScaledLinear(kDiffusionSteps, config.beta_start(), config.beta_end())),
        in_{shape.channels, shape.height, shape.width, shape.patch_size},
        out_{shape.channels, shape.height, shape.width, shape.patch_size, /*channels_last=*/true},
        batch_(source.order().micro_batch),
        seed_(source.evaluation() ? kLatentEvaluationSeed : source.order().seed),
        inputs_(shape, batch_, source.file().scratch_elements()) {
    for (std::vector<float>* buffer : {&noisy_, &target_}) buffer->resize(batch_ * in_.elements());
    for (std::vector<float>* buffer : {&noise_, &mixed_}) buffer->resize(in_.elements());
    sample_weight_.resize(batch_);
    if (!shape.variance_in_loss) return;
    clean_.resize(noisy_.size());
    bound_.resize(static_cast<size_t>(batch_ * kBoundColumns));
  }

  // Returns 0: the task has no number of its own.
  absl::StatusOr<double> Feed(const MicroBatchPosition& position) override {
    float weight = 0;
    for (int64_t row = 0; row < batch_; ++row) {
      const int64_t sample = source_.SampleAt(position, row);
      if (sample < 0) {
        ClearRow(row);
        continue;
      }
      RETURN_IF_ERROR(FillRow(row, sample));
      ++weight;
    }
    inputs_.Write(graph_, executor_);
    executor_.WriteInput(graph_.FindTensor("noisy"), noisy_.data());
    executor_.WriteInput(graph_.FindTensor("target"), target_.data());
    executor_.WriteInput(graph_.FindTensor("sample_weight"), sample_weight_.data());
    executor_.WriteInput(graph_.FindTensor("weight"), &weight);
    if (!bound_.empty()) {
      executor_.WriteInput(graph_.FindTensor("clean"), clean_.data());
      executor_.WriteInput(graph_.FindTensor("bound"), bound_.data());
    }
    return 0.0;
  }
  const SampleSource& source() const override { return source_; }

 private:
  std::span<float> Patches(std::vector<float>& all, int64_t row) const {
    const auto pixels = static_cast<size_t>(in_.elements());
    return std::span(all).subspan(static_cast<size_t>(row) * pixels, pixels);
  }
  std::span<float> BoundOf(int64_t row) {
    return std::span(bound_).subspan(static_cast<size_t>(row * kBoundColumns), kBoundColumns);
  }
  bool Drops(int64_t sample, uint32_t stream, double probability) const {
    return !source_.evaluation() && DropsCondition(seed_, sample, stream, probability);
  }

  absl::Status FillRow(int64_t row, int64_t sample) {
    RETURN_IF_ERROR(source_.file().Read(source_.IndexOf(sample), Drops(sample, kClipStream, config_.clip_dropout()),
                                        Drops(sample, kT5Stream, config_.t5_dropout()), inputs_.Row(row)));
    const int64_t time = TrainingTime(seed_, sample, kDiffusionSteps);
    const Mix mix = schedule_.At(time);
    const Prediction prediction = PredictionFromConfig(config_.prediction());
    sample_weight_[row] = static_cast<float>(MinSnrWeight(prediction, mix.snr(), config_.min_snr_gamma()));
    FillNormal({.seed = seed_, .purpose = NoisePurpose::kTrainingNoise, .sample = sample}, noise_);
    AddNoiseOffset(seed_, sample, in_.channels, config_.noise_offset(), noise_);
    AddNoise(mix, inputs_.latent(), noise_, mixed_);
    ToPatches(in_, mixed_, Patches(noisy_, row));
    PredictionTarget(prediction, mix, inputs_.latent(), noise_, mixed_);
    ToPatches(out_, mixed_, Patches(target_, row));
    if (!bound_.empty()) {
      ToPatches(out_, inputs_.latent(), Patches(clean_, row));
      FillBound(schedule_, prediction, time, config_.variance_weight(), BoundOf(row));
    }
    inputs_.Finish(row, static_cast<double>(time));
    return absl::OkStatus();
  }
  void ClearRow(int64_t row) {
    std::ranges::fill(Patches(noisy_, row), 0.0f);
    std::ranges::fill(Patches(target_, row), 0.0f);
    sample_weight_[row] = 0;
    if (!bound_.empty()) {
      std::ranges::fill(Patches(clean_, row), 0.0f);
      std::ranges::fill(BoundOf(row), 0.0f);
    }
    inputs_.Clear(row);
  }

  const Graph& graph_;
  Executor& executor_;
  const HunyuanDitConfig config_;
  const LatentSource& source_;
  const DiffusionSchedule schedule_;
  const PatchGrid in_, out_;
  const int64_t batch_;
  const uint64_t seed_;
  HunyuanInputs inputs_;
  std::vector<float> noisy_, target_, noise_, mixed_, sample_weight_;
  std::vector<float> clean_, bound_;  // empty if the variance is not learned
};

// Shapes by bucket, the model's own first.
std::vector<HunyuanDitShape> BucketShapes(const HunyuanDitShape& shape, const HunyuanDitConfig& config) {
  std::vector<HunyuanDitShape> shapes = {shape};
  for (const std::string& text : config.bucket()) {
    const LatentSize size = *ParseLatentSize(text);
    shapes.push_back(shape);
    shapes.back().height = size.height;
    shapes.back().width = size.width;
  }
  return shapes;
}

// The prompts of sampling{}, by bucket.
std::vector<std::vector<std::string>> AskedSamples(const SamplingConfig& sampling, const HunyuanDitConfig& dit) {
  std::vector<std::vector<std::string>> asked(static_cast<size_t>(dit.bucket_size()) + 1);
  if (sampling.every_steps() == 0) return asked;
  for (const std::string& text : sampling.prompt()) {
    const LatentPrompt prompt = ParseLatentPrompt(dit, text);
    APTM_CHECK(prompt.bucket.has_value(), text);  // validated
    asked[static_cast<size_t>(*prompt.bucket)].push_back(prompt.number);
  }
  return asked;
}

// Divides `wanted` samples among buckets with `counts` samples: in proportion, or all of them.
std::vector<int64_t> Shares(int64_t wanted, const std::vector<int64_t>& counts) {
  const int64_t all = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<int64_t> shares;
  int64_t before = 0, taken = 0;
  for (const int64_t count : counts) {
    before += count;
    const double share = static_cast<double>(before) / static_cast<double>(all);
    const int64_t end = wanted >= all ? before : static_cast<int64_t>(static_cast<double>(wanted) * share);
    shares.push_back(end - std::exchange(taken, end));
  }
  return shares;
}

class HunyuanDitTask final : public Task {
 public:
  HunyuanDitTask(const TrainConfig& config, std::vector<StateSpec> states)
      : config_(config),
        dit_(WithDefaults(config.model().hunyuan_dit())),
        shape_(HunyuanDitShapeFromConfig(config.model())),
        buckets_(BucketShapes(shape_, dit_)),
        asked_(AskedSamples(config.sampling(), dit_)),
        table_(HunyuanDitParameters(shape_, std::move(states))) {}

  absl::Status Open();

  const ParameterTable& parameters() const override { return *table_; }
  int64_t recomputable_blocks() const override { return shape_.recomputable_blocks(); }
  Graph BuildTraining(const std::vector<bool>& recompute) const override {
    return BuildHunyuanDitTraining(shape_, config_.batch().micro_batch_sequences(), recompute, table_);
  }
  int64_t bucket_count() const override { return static_cast<int64_t>(buckets_.size()); }
  Graph BuildBucketTraining(int64_t bucket, const std::vector<bool>& recompute) const override {
    Graph graph = BuildHunyuanDitTraining(buckets_[bucket], config_.batch().micro_batch_sequences(), recompute, table_);
    graph.name = absl::StrCat("training of ", BucketName(bucket));
    return graph;
  }
  std::string BucketName(int64_t bucket) const override {
    return absl::StrCat(buckets_[bucket].height, "x", buckets_[bucket].width);
  }
  double BucketShare(int64_t bucket) const override {
    return static_cast<double>(buckets_[bucket].tokens()) / static_cast<double>(shape_.tokens());
  }
  Graph BuildEvaluation(StateId weights) const override {
    return BuildHunyuanDitEvaluation(shape_, config_.batch().micro_batch_sequences(), table_, weights);
  }
  Graph BuildBucketEvaluation(int64_t bucket, StateId weights) const override {
    Graph graph = BuildHunyuanDitEvaluation(buckets_[bucket], config_.batch().micro_batch_sequences(), table_, weights);
    graph.name = absl::StrCat("evaluation of ", BucketName(bucket));
    return graph;
  }
  absl::StatusOr<Graph> BuildDecoding(int64_t, int64_t) const override {
    return absl::InvalidArgumentError("model.hunyuan_dit makes images, wanted a language model to continue a text");
  }
  std::optional<Graph> BuildSampling(int64_t bucket, StateId weights) const override {
    if (asked_[bucket].empty()) return std::nullopt;
    Graph graph = BuildHunyuanDitForward(buckets_[bucket], SamplingBatch(bucket).rows(), table_, weights);
    if (bucket > 0) graph.name = absl::StrCat("forward of ", BucketName(bucket));
    return graph;
  }
  std::string Describe() const override {
    return absl::StrCat(shape_.num_hidden_layers, " layers",
                        shape_.control ? absl::StrCat(", a branch of ", shape_.skips(), " that is trained") : "",
                        ", latents of ", shape_.channels, " x ", shape_.height, " x ", shape_.width, " in ",
                        shape_.tokens(), " patches",
                        bucket_count() > 1 ? absl::StrCat(" and of ", bucket_count() - 1, " more sizes") : "", ", ",
                        shape_.clip_length, " + ", shape_.t5_length, " text states");
  }
  ChangeableFields changeable_fields() const override { return {kHunyuanWithoutEffect, kHunyuanOfTheCurve}; }
  bool loss_depends_on_micro_batch() const override { return false; }

  int64_t vocab_size() const override { return 1; }
  const SampleSource* training_samples() const override { return training_.empty() ? nullptr : training_[0].get(); }
  const SampleSource* validation_samples() const override { return bucket_validation_samples(0); }
  const SampleSource* bucket_validation_samples(int64_t bucket) const override {
    return validation_.empty() ? nullptr : validation_[bucket].get();
  }
  const SampleSource* bucket_samples(int64_t bucket) const override { return training_[bucket].get(); }
  int64_t BucketOf(int64_t first_sample) const override { return order_ ? order_->At(first_sample).bucket : 0; }
  std::string sample_order() const override;
  std::string note() const override { return note_; }
  absl::Status CheckFreshStart() const override {
    if (!shape_.control) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "model.hunyuan_dit.control: there is no model to train the branch beside: wanted a checkpoint in ",
        CheckpointDirectory(config_), ", which `angel-ptm import` writes, and --resume, got a fresh start"));
  }
  std::vector<CheckpointFile> checkpoint_files() const override { return {}; }
  std::unique_ptr<Feeder> MakeFeeder(const Graph& graph, Executor& executor,
                                     const SampleSource& samples) const override {
    for (int64_t bucket = 0; bucket < bucket_count(); ++bucket) {
      if (&samples != bucket_samples(bucket) && &samples != bucket_validation_samples(bucket)) continue;
      return std::make_unique<LatentFeeder>(graph, executor, buckets_[bucket], dit_,
                                            static_cast<const LatentSource&>(samples));
    }
    APTM_CHECK(false, "samples of another task");
  }
  std::unique_ptr<Sampler> MakeSampler(int64_t bucket, const Graph& graph, Executor& executor) const override;
  std::vector<TaskNumber> LoadNumbers(const ExpertLoads&) const override { return {}; }
  std::vector<TaskNumber> LossNumbers(const Graph& training, const StepSums& sums) const override {
    return LossParts(training, sums);
  }
  std::vector<TaskNumber> EvaluationNumbers(const LossSums&) const override { return {}; }
  ExpertLoads ReadExpertLoads(const Graph&, const Executor&) const override { return {}; }

 private:
  absl::Status OpenValidation();
  BatchOptions SamplingBatch(int64_t bucket) const {
    return SamplingBatchFromConfig(config_, HunyuanSampling(dit_), static_cast<int64_t>(asked_[bucket].size()));
  }
  LatentOrder Order() const {
    return {.global_batch = config_.batch().global_batch_sequences(),
            .micro_batch = config_.batch().micro_batch_sequences(),
            .seed = config_.seed()};
  }
  // The path of the bucket's file.
  std::string PathOf(const std::string& name, int64_t bucket) const {
    return absl::StrCat(config_.data().directory(), "/", name, bucket == 0 ? "" : "-" + BucketName(bucket),
                        ".safetensors");
  }

  const TrainConfig config_;
  const HunyuanDitConfig dit_;
  const HunyuanDitShape shape_;
  const std::vector<HunyuanDitShape> buckets_;  // the model's own first
  const std::vector<std::vector<std::string>> asked_;
  const std::shared_ptr<const ParameterTable> table_;
  std::vector<std::unique_ptr<LatentFile>> train_, held_out_;         // by bucket; null if nothing is held out
  std::optional<BucketOrder> order_;                                  // none if there is one bucket
  std::vector<std::unique_ptr<LatentSource>> training_, validation_;  // by bucket; null if nothing is evaluated
  std::vector<std::vector<int64_t>> prompts_;                         // asked_ as numbers of the bucket's samples
  std::string note_;
};

std::string HunyuanDitTask::sample_order() const {
  std::string order;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    absl::StrAppend(&order, b == 0 ? "" : ", ", train_[b]->count(), " latents of ", buckets_[b].channels, " x ",
                    buckets_[b].height, " x ", buckets_[b].width, ", digest ",
                    absl::Hex(train_[b]->digest(), absl::kZeroPad16));
  }
  // The order of buckets depends on how many samples a step takes.
  if (order_) absl::StrAppend(&order, ", steps of ", config_.batch().global_batch_sequences());
  return absl::StrCat(order, ", order and noise of seed ", config_.seed());
}

std::unique_ptr<Sampler> HunyuanDitTask::MakeSampler(int64_t bucket, const Graph& graph, Executor& executor) const {
  const BatchOptions batch = SamplingBatch(bucket);
  const HunyuanDitShape& shape = buckets_[bucket];
  const std::vector<int64_t>& prompts = prompts_[bucket];
  const std::string file = absl::StrCat("latents", bucket == 0 ? "" : "-" + BucketName(bucket), ".safetensors");
  return std::make_unique<RunSampler>(
      static_cast<int64_t>(prompts.size()), batch, NoisyGrid(shape), PredictionGrid(shape), Denoiser{&graph, &executor},
      std::make_unique<LatentConditions>(shape, *train_[bucket], prompts, /*samples_per_prompt=*/1, batch.rows()),
      [this, batch, file, &shape, &prompts](const std::string& folder, int64_t step,
                                            std::span<const float> samples) -> absl::StatusOr<std::string> {
        RETURN_IF_ERROR(MakeDirectories(folder));
        SamplingFacts facts = FactsOfSamples(config_, step, batch);
        if (shape.control) facts.control_scale = 1;
        RETURN_IF_ERROR(WriteSampledLatents(folder + "/" + file, NoisyGrid(shape), prompts, /*samples_per_prompt=*/1,
                                            samples, facts));
        return std::string();
      });
}

absl::Status HunyuanDitTask::Open() {
  const LatentOrder order = Order();
  std::vector<int64_t> counts;
  for (int64_t b = 0; b < bucket_count(); ++b) {
    ASSIGN_OR_RETURN(train_.emplace_back(), LatentFile::Open(PathOf("train", b), buckets_[b]));
    counts.push_back(train_.back()->count());
  }
  if (bucket_count() > 1) order_.emplace(counts, order.global_batch, order.seed);
  for (const auto& file : train_) {
    training_.push_back(std::make_unique<LatentSource>(*file, order, order_ ? &*order_ : nullptr));
  }
  for (size_t b = 0; b < asked_.size(); ++b) {
    prompts_.emplace_back();
    if (asked_[b].empty()) continue;
    ASSIGN_OR_RETURN(prompts_[b], ReadSampleNumbers(asked_[b], *train_[b], "sampling.prompt"));
  }
  return config_.evaluation().every_steps() == 0 ? absl::OkStatus() : OpenValidation();
}

// The model's own size must have held-out samples, other buckets may have some.
absl::Status HunyuanDitTask::OpenValidation() {
  std::vector<std::string> missing;
  std::vector<int64_t> counts;
  for (int64_t b = 0; b < bucket_count(); ++b) {
    const std::string path = PathOf("validation", b);
    ASSIGN_OR_RETURN(const bool exists, PathExists(path));
    held_out_.emplace_back();
    if (b == 0 || exists) {
      ASSIGN_OR_RETURN(held_out_.back(), LatentFile::Open(path, buckets_[b]));
    } else {
      missing.push_back(BucketName(b));
    }
    counts.push_back(held_out_.back() != nullptr ? held_out_.back()->count() : 0);
  }
  const std::vector<int64_t> shares = Shares(config_.evaluation().sequences(), counts);
  for (size_t b = 0; b < counts.size(); ++b) {
    LatentOrder order = Order();
    order.evaluation_samples = shares[b];
    validation_.push_back(shares[b] == 0 ? nullptr : std::make_unique<LatentSource>(*held_out_[b], order));
  }
  if (!missing.empty()) {
    note_ = absl::StrCat("the validation loss leaves out size ", absl::StrJoin(missing, " and "),
                         ", which has no held-out samples (", PathOf("validation-" + missing[0], 0), ")");
  }
  return absl::OkStatus();
}

}  // namespace

HunyuanDitShape HunyuanDitShapeFromConfig(const ModelConfig& config) {
  const HunyuanDitConfig c = WithDefaults(config.hunyuan_dit());
  return {.channels = c.channels(),
          .height = c.height(),
          .width = c.width(),
          .patch_size = c.patch_size(),
          .hidden_size = c.hidden_size(),
          .intermediate_size = c.intermediate_size(),
          .num_hidden_layers = c.num_hidden_layers(),
          .num_attention_heads = c.num_attention_heads(),
          .clip_hidden_size = c.clip_hidden_size(),
          .clip_length = c.clip_length(),
          .t5_hidden_size = c.t5_hidden_size(),
          .t5_length = c.t5_length(),
          .pooled_size = c.pooled_size(),
          .learn_sigma = c.learn_sigma(),
          .variance_in_loss = c.variance_weight() > 0,
          .size_and_style = c.size_and_style(),
          .control = c.control(),
          .freeze = {config.freeze().begin(), config.freeze().end()}};
}

HunyuanDitConfig ScaledHunyuanDit(const HunyuanDitConfig& model, ScaleAxis axis, int64_t steps) {
  HunyuanDitConfig scaled = WithDefaults(model);
  if (axis == ScaleAxis::kDepth) {
    scaled.set_num_hidden_layers(2 * steps);
    return scaled;
  }
  constexpr double kMultiple = 16;
  const double inner = static_cast<double>(scaled.intermediate_size()) / static_cast<double>(scaled.hidden_size());
  scaled.set_hidden_size(scaled.hidden_size() / scaled.num_attention_heads() * steps);
  scaled.set_num_attention_heads(steps);
  scaled.set_intermediate_size(static_cast<int64_t>(
      std::max(1.0, std::round(inner * static_cast<double>(scaled.hidden_size()) / kMultiple)) * kMultiple));
  return scaled;
}

std::unique_ptr<Task> MakeHunyuanDitTask(const TrainConfig& config, std::vector<StateSpec> states) {
  return std::make_unique<HunyuanDitTask>(config, std::move(states));
}

absl::StatusOr<std::unique_ptr<Task>> OpenHunyuanDitTask(const TrainConfig& config) {
  auto task = std::make_unique<HunyuanDitTask>(config, std::vector{ParameterState()});
  RETURN_IF_ERROR(task->Open());
  return std::unique_ptr<Task>(std::move(task));
}

}  // namespace angel_ptm
