#include "angel_ptm/train/tasks/hunyuan_lm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/train/tasks/token_feeder.h"

namespace angel_ptm {
namespace {

// Fields that matter only before the first step or to readers of an exported model, and sizes whose 0 stands for a
// value found elsewhere: a difference of those shows in the shapes of the parameters.
constexpr std::array<std::string_view, 5> kWithoutEffect = {
    "model.hunyuan_lm.initializer_range", "model.hunyuan_lm.max_position_embeddings",
    "model.hunyuan_lm.num_key_value_heads", "model.hunyuan_lm.head_dim", "model.hunyuan_lm.vocab_size"};
constexpr std::array<std::string_view, 1> kOfTheCurve = {"model.hunyuan_lm.router_aux_loss_coefficient"};

HunyuanLmShape ShapeOfRun(const TrainConfig& config, int64_t vocab_size) {
  HunyuanLmShape shape = ShapeFromConfig(config.model(), vocab_size);
  shape.expert_degree = config.sharding().expert_degree();
  return shape;
}

class HunyuanLmTask final : public Task {
 public:
  HunyuanLmTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states)
      : config_(config),
        vocab_size_(vocab_size),
        shape_(ShapeOfRun(config, vocab_size)),
        batch_(BatchFromConfig(config)),
        table_(HunyuanLmParameters(shape_, std::move(states))) {}

  // `dataset` must have the vocabulary with which the task was made.
  absl::Status Open(TextDataset dataset);

  const ParameterTable& parameters() const override { return *table_; }
  int64_t recomputable_blocks() const override { return shape_.num_hidden_layers; }
  Graph BuildTraining(const std::vector<bool>& recompute) const override {
    return BuildHunyuanLmTraining(shape_, batch_, recompute, table_);
  }
  Graph BuildEvaluation(StateId weights) const override {
    return BuildHunyuanLmEvaluation(shape_, batch_, table_, weights);
  }
  absl::StatusOr<Graph> BuildDecoding(int64_t rows, int64_t length) const override;
  std::optional<Graph> BuildSampling(int64_t, StateId) const override { return std::nullopt; }

  std::string Describe() const override;
  ChangeableFields changeable_fields() const override { return {kWithoutEffect, kOfTheCurve}; }
  bool loss_depends_on_micro_batch() const override {
    return shape_.is_moe() && shape_.router_aux_loss_coefficient != 0;
  }

  int64_t vocab_size() const override { return vocab_size_; }
  const SampleSource* training_samples() const override { return training_ ? &*training_ : nullptr; }
  const SampleSource* validation_samples() const override { return validation_ ? &*validation_ : nullptr; }
  std::string sample_order() const override;
  std::string note() const override { return dataset_.note; }
  std::vector<CheckpointFile> checkpoint_files() const override {
    return {{"tokenizer.json", dataset_.tokenizer_json}, {"tokenizer_config.json", dataset_.tokenizer_config_json}};
  }
  std::unique_ptr<Feeder> MakeFeeder(const Graph& graph, Executor& executor,
                                     const SampleSource& samples) const override {
    APTM_CHECK(&samples == training_samples() || &samples == validation_samples(), "samples of another task");
    return std::make_unique<TokenFeeder>(graph, executor, static_cast<const TokenSource&>(samples), token_bytes_);
  }
  std::unique_ptr<Sampler> MakeSampler(int64_t, const Graph&, Executor&) const override { return nullptr; }
  std::vector<TaskNumber> LoadNumbers(const ExpertLoads& loads) const override;
  std::vector<TaskNumber> LossNumbers(const Graph&, const StepSums&) const override { return {}; }
  std::vector<TaskNumber> EvaluationNumbers(const LossSums& sums) const override;
  ExpertLoads ReadExpertLoads(const Graph& training, const Executor& executor) const override;

 private:
  const TrainConfig config_;
  const int64_t vocab_size_;
  const HunyuanLmShape shape_;
  const HunyuanLmBatch batch_;
  const std::shared_ptr<const ParameterTable> table_;
  TextDataset dataset_;
  std::vector<int32_t> token_bytes_;  // by token id
  std::optional<TokenSource> training_, validation_;
};

absl::Status HunyuanLmTask::Open(TextDataset dataset) {
  dataset_ = std::move(dataset);
  token_bytes_ = dataset_.tokenizer->TokenByteLengths();
  const std::string& directory = config_.data().directory();
  const int64_t vocab_size = config_.model().hunyuan_lm().vocab_size();
  if (vocab_size > 0 && vocab_size < static_cast<int64_t>(token_bytes_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("model.hunyuan_lm.vocab_size: smaller than the tokenizer of ",
                                                   directory, ", wanted 0 or at least ", token_bytes_.size(), ", got ",
                                                   vocab_size));
  }
  LoaderOptions options{.global_batch = config_.batch().global_batch_sequences(),
                        .micro_batch = config_.batch().micro_batch_sequences(),
                        .seed = config_.seed()};
  ASSIGN_OR_RETURN(const Loader training, Loader::Create(dataset_.train.get(), options));
  training_.emplace(training);
  if (config_.evaluation().every_steps() == 0) return absl::OkStatus();
  if (dataset_.validation == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("evaluation.every_steps: ", directory,
                                                   " has no validation text, wanted 0, got ",
                                                   config_.evaluation().every_steps()));
  }
  options.evaluation_samples = config_.evaluation().sequences();
  ASSIGN_OR_RETURN(const Loader validation, Loader::Create(dataset_.validation.get(), options));
  validation_.emplace(validation);
  if (validation.sample_count() < config_.evaluation().sequences()) {
    absl::StrAppend(&dataset_.note, dataset_.note.empty() ? "" : "; ", "evaluation.sequences is ",
                    config_.evaluation().sequences(), ", but ", directory, " has ", validation.sample_count(),
                    " held-out sequences, all of which are scored");
  }
  return absl::OkStatus();
}

absl::StatusOr<Graph> HunyuanLmTask::BuildDecoding(int64_t rows, int64_t length) const {
  const int64_t positions = config_.model().hunyuan_lm().max_position_embeddings();
  if (length > positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("a prompt and --tokens come to ", length,
                     " tokens, wanted at most the model's max_position_embeddings = ", positions));
  }
  return BuildHunyuanLmDecoding(shape_, rows, length, batch_.expert_block_rows, table_);
}

std::string HunyuanLmTask::Describe() const {
  return absl::StrCat(
      shape_.num_hidden_layers, " layers",
      shape_.is_moe() ? absl::StrCat(", ", shape_.num_experts, " experts, top ", shape_.moe_topk) : ", dense",
      ", vocabulary ", shape_.vocab_size);
}

std::string HunyuanLmTask::sample_order() const {
  return absl::StrCat("tokenizer ", absl::Hex(dataset_.manifest.tokenizer_xxh64, absl::kZeroPad16), ", tokens ",
                      absl::Hex(dataset_.manifest.train_xxh64, absl::kZeroPad16), " in sequences of ",
                      config_.data().sequence_length(), ", seed ", config_.seed());
}

ExpertLoads HunyuanLmTask::ReadExpertLoads(const Graph& training, const Executor& executor) const {
  ExpertLoads loads;
  std::vector<int32_t> layer(static_cast<size_t>(shape_.num_experts));
  for (const TensorId tensor : LoadTensors(training)) {
    executor.ReadOutput(tensor, layer.data());
    loads.emplace_back(layer.begin(), layer.end());
  }
  return loads;
}

// Load of the fullest expert relative to the mean, in the worst layer; 1 means even.
std::vector<TaskNumber> HunyuanLmTask::LoadNumbers(const ExpertLoads& loads) const {
  if (!shape_.is_moe()) return {};
  double worst = 1;
  for (const std::vector<int64_t>& layer : loads) {
    const double sum = std::accumulate(layer.begin(), layer.end(), 0.0);
    const double fullest = static_cast<double>(*std::max_element(layer.begin(), layer.end()));
    worst = std::max(worst, fullest * static_cast<double>(layer.size()) / sum);
  }
  return {{"expert_balance", worst, absl::StrFormat("balance %.2f", worst)}};
}

// nats / ln 2 / bytes of the target tokens, which is comparable across vocabularies.
std::vector<TaskNumber> HunyuanLmTask::EvaluationNumbers(const LossSums& sums) const {
  const double bits = sums.loss / std::numbers::ln2 / sums.own;
  return {{"validation_bits_per_byte", bits, absl::StrFormat("%.3f bits/byte", bits)}};
}

}  // namespace

HunyuanLmShape ShapeFromConfig(const ModelConfig& config, int64_t vocab_size) {
  const HunyuanLmConfig& c = config.hunyuan_lm();
  return {.vocab_size = c.vocab_size() > 0 ? c.vocab_size() : vocab_size,
          .hidden_size = c.hidden_size(),
          .intermediate_size = c.intermediate_size(),
          .num_hidden_layers = c.num_hidden_layers(),
          .num_attention_heads = c.num_attention_heads(),
          .num_key_value_heads = KeyValueHeads(c),
          .head_dim = HeadDim(c),
          .num_experts = c.num_experts(),
          .moe_topk = c.moe_topk(),
          .rope_theta = c.rope_theta(),
          .rope_alpha = c.rope_alpha(),
          .rms_norm_eps = static_cast<float>(c.rms_norm_eps()),
          .tie_word_embeddings = c.tie_word_embeddings(),
          .initializer_range = static_cast<float>(c.initializer_range()),
          .router_aux_loss_coefficient = static_cast<float>(c.router_aux_loss_coefficient()),
          .freeze = {config.freeze().begin(), config.freeze().end()}};
}

HunyuanLmBatch BatchFromConfig(const TrainConfig& config) {
  return {.rows = config.batch().micro_batch_sequences(),
          .sequence = config.data().sequence_length(),
          .lm_head_chunk_tokens = config.numerics().lm_head_chunk_tokens(),
          .expert_block_rows = config.numerics().expert_block_rows()};
}

HunyuanLmConfig ScaledHunyuanLm(const HunyuanLmConfig& model, ScaleAxis axis, int64_t steps) {
  HunyuanLmConfig scaled = model;
  if (axis == ScaleAxis::kDepth) {
    scaled.set_num_hidden_layers(steps);
    return scaled;
  }
  // Keep the stream width per query head, and the ratio of the MLP's inner width to the stream's.
  const int64_t heads_per_group = model.num_attention_heads() / KeyValueHeads(model);
  const double width_per_head =
      static_cast<double>(model.hidden_size()) / static_cast<double>(model.num_attention_heads());
  const double inner = static_cast<double>(model.intermediate_size()) / static_cast<double>(model.hidden_size());
  constexpr int64_t kMultiple = 16;
  const auto rounded = [](double features) {
    return std::max<int64_t>(1, std::llround(features / kMultiple)) * kMultiple;
  };
  scaled.set_head_dim(HeadDim(model));
  scaled.set_num_key_value_heads(steps);
  scaled.set_num_attention_heads(steps * heads_per_group);
  scaled.set_hidden_size(rounded(width_per_head * static_cast<double>(steps * heads_per_group)));
  scaled.set_intermediate_size(rounded(inner * static_cast<double>(scaled.hidden_size())));
  return scaled;
}

std::unique_ptr<Task> MakeHunyuanLmTask(const TrainConfig& config, int64_t vocab_size, std::vector<StateSpec> states) {
  return std::make_unique<HunyuanLmTask>(config, vocab_size, std::move(states));
}

absl::StatusOr<std::unique_ptr<Task>> OpenHunyuanLmTask(const TrainConfig& config) {
  ASSIGN_OR_RETURN(TextDataset dataset, OpenTextDataset(config.data().directory(), config.data().sequence_length()));
  auto task =
      std::make_unique<HunyuanLmTask>(config, dataset.tokenizer->vocabulary_size(), std::vector{ParameterState()});
  RETURN_IF_ERROR(task->Open(std::move(dataset)));
  return std::unique_ptr<Task>(std::move(task));
}

}  // namespace angel_ptm
