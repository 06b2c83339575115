#include "angel_ptm/train/tasks/generate_images.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/data/utf8.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/diffusion/samplers.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

// What a row of the graph is conditioned on: tokens of a caption, or one class.
using Condition = std::vector<int32_t>;

class ImageGenerator {
 public:
  explicit ImageGenerator(const GenerateImagesOptions& options) : options_(options) {}

  absl::Status Load(const std::string& checkpoint_path);
  absl::StatusOr<std::vector<GeneratedImage>> Run();

 private:
  bool guided() const { return options_.guidance != 1; }
  absl::Status CheckOptions() const;
  absl::Status ReadPrompts(const CheckpointReader& checkpoint);
  absl::StatusOr<Condition> ReadPrompt(const std::string& prompt, const ImageManifest& manifest) const;
  absl::StatusOr<Condition> ReadCaption(const std::string& prompt) const;
  absl::StatusOr<Condition> ReadClass(const std::string& prompt, const ImageManifest& manifest) const;
  Condition NoCondition() const;
  void Note(const std::string& sentence) const {
    if (options_.notes != nullptr) std::fprintf(options_.notes, "note: %s\n", sentence.c_str());
  }

  // Images [first, first + batch_): their conditions and starting noise; those behind the last repeat it.
  void Start(int64_t first);
  void WriteInputs(double time);
  // output_ = what the model puts out for x_ at a time, guided.
  absl::Status Predict(double time);
  absl::Status SampleFlow();
  absl::Status SampleDiffusion();
  std::span<float> OfBatch(std::vector<float>& rows) const {
    return {rows.data(), static_cast<size_t>(batch_ * grid_.elements())};
  }

  const GenerateImagesOptions& options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  DitShape shape_;
  DitObjective objective_;
  PatchGrid grid_;
  std::vector<Condition> conditions_;  // by prompt
  Condition negative_;
  int64_t images_ = 0, batch_ = 0, rows_ = 0;  // rows_: of the graph, twice the batch with guidance
  std::unique_ptr<Inference> inference_;
  std::vector<float> x_, output_, previous_;  // [rows_, pixels] as patches; of the last two the batch is used
  std::vector<float> time_features_, cos_sin_;
  std::vector<int32_t> tokens_, token_counts_, class_ids_;
};

absl::Status ImageGenerator::CheckOptions() const {
  if (options_.steps < 1 || options_.steps > kDiffusionSteps) {
    return absl::InvalidArgumentError(absl::StrCat("--steps: wanted 1 to ", kDiffusionSteps, ", got ", options_.steps));
  }
  if (!(options_.guidance >= 0 && options_.guidance <= 1000)) {
    return absl::InvalidArgumentError(absl::StrCat("--guidance: wanted 0 to 1000, got ", options_.guidance));
  }
  if (options_.images_per_prompt < 1 || options_.images_per_prompt > (1 << 20)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--images: wanted 1 to ", 1 << 20, ", got ", options_.images_per_prompt));
  }
  return absl::OkStatus();
}

Condition ImageGenerator::NoCondition() const {
  if (shape_.reads_captions()) return {static_cast<int32_t>(shape_.text_vocab_size)};
  return {static_cast<int32_t>(shape_.class_count)};
}

absl::StatusOr<Condition> ImageGenerator::ReadCaption(const std::string& prompt) const {
  if (ValidUtf8Prefix(prompt) != prompt.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--prompt: wanted UTF-8, got another encoding behind \"",
                                                   prompt.substr(0, ValidUtf8Prefix(prompt)), "\""));
  }
  Condition tokens = tokenizer_->Encode(prompt);
  if (tokens.empty()) return NoCondition();
  const auto most = static_cast<size_t>(shape_.text_length);
  if (tokens.size() > most) {
    const std::vector<int32_t> cut(tokens.begin() + shape_.text_length, tokens.end());
    Note(absl::StrCat("the model reads ", most, " tokens of a prompt, dropped \"", tokenizer_->Decode(cut), "\""));
    tokens.resize(most);
  }
  return tokens;
}

absl::StatusOr<Condition> ImageGenerator::ReadClass(const std::string& prompt, const ImageManifest& manifest) const {
  if (prompt.empty()) return NoCondition();
  const auto named = std::find(manifest.classes.begin(), manifest.classes.end(), prompt);
  if (named != manifest.classes.end()) return Condition{static_cast<int32_t>(named - manifest.classes.begin())};
  int32_t number = 0;
  if (absl::SimpleAtoi(prompt, &number) && number >= 0 && number < shape_.class_count) return Condition{number};
  return absl::InvalidArgumentError(absl::StrCat("--prompt: wanted one of the ", shape_.class_count,
                                                 " classes by name or number, got \"", prompt, "\""));
}

absl::StatusOr<Condition> ImageGenerator::ReadPrompt(const std::string& prompt, const ImageManifest& manifest) const {
  return shape_.reads_captions() ? ReadCaption(prompt) : ReadClass(prompt, manifest);
}

absl::Status ImageGenerator::ReadPrompts(const CheckpointReader& checkpoint) {
  if (!shape_.reads_captions() && !shape_.reads_classes()) {
    if (!options_.prompts.empty() || guided()) {
      return absl::InvalidArgumentError(
          "the model was trained without captions or classes, wanted no --prompt and --guidance 1");
    }
    conditions_ = {{}};
    return absl::OkStatus();
  }
  if (options_.prompts.empty()) return absl::InvalidArgumentError("--prompt is missing");
  if (guided() && objective_.condition_dropout == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--guidance: the model was trained with condition_dropout = 0, wanted 1, got ", options_.guidance));
  }
  ASSIGN_OR_RETURN(const std::string json, checkpoint.ReadCopiedFile("images.json"));
  ASSIGN_OR_RETURN(const ImageManifest manifest, ImageManifest::FromJson(json, checkpoint.path() + "/images.json"));
  for (const std::string& prompt : options_.prompts) {
    ASSIGN_OR_RETURN(conditions_.emplace_back(), ReadPrompt(prompt, manifest));
  }
  ASSIGN_OR_RETURN(negative_, ReadPrompt(options_.negative_prompt, manifest));
  return absl::OkStatus();
}

absl::Status ImageGenerator::Load(const std::string& checkpoint_path) {
  RETURN_IF_ERROR(CheckOptions());
  ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(checkpoint_path));
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(checkpoint, &note));
  if (!note.empty()) Note(note);
  if (!config.model().has_dit()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint_path, " is no model of images, wanted one of model.dit"));
  }
  ASSIGN_OR_RETURN(const std::string json, checkpoint.ReadCopiedFile("tokenizer.json"));
  ASSIGN_OR_RETURN(tokenizer_, Tokenizer::FromJson(json, checkpoint_path + "/tokenizer.json"));
  shape_ = DitShapeFromConfig(config.model(), tokenizer_->vocabulary_size());
  objective_ = DitObjectiveFromConfig(config.model().dit());
  grid_ = {shape_.channels, shape_.height, shape_.width, shape_.patch_size};
  RETURN_IF_ERROR(ReadPrompts(checkpoint));
  images_ = static_cast<int64_t>(conditions_.size()) * options_.images_per_prompt;
  batch_ = std::min(images_, std::max<int64_t>(1, options_.batch_max));
  rows_ = guided() ? 2 * batch_ : batch_;
  const auto table = DitParameters(shape_, {ParameterState(ComputeType(config))});
  ASSIGN_OR_RETURN(inference_, Inference::Create(BuildDitForward(shape_, rows_, table), checkpoint, options_.inference,
                                                 absl::StrCat("weights and ", rows_, " images side by side")));
  for (std::vector<float>* buffer : {&x_, &output_, &previous_}) {
    buffer->resize(static_cast<size_t>(rows_ * grid_.elements()));
  }
  time_features_.resize(static_cast<size_t>(rows_ * kTimeFeatures));
  cos_sin_.resize(static_cast<size_t>(shape_.tokens() * shape_.head_dim()));
  RopeTable2d(shape_.grid_height(), shape_.grid_width(), shape_.head_dim(), shape_.rope_theta, cos_sin_);
  tokens_.resize(static_cast<size_t>(rows_ * shape_.text_length));
  for (std::vector<int32_t>* buffer : {&token_counts_, &class_ids_}) buffer->resize(static_cast<size_t>(rows_));
  return absl::OkStatus();
}

void ImageGenerator::Start(int64_t first) {
  const auto pixels = static_cast<size_t>(grid_.elements());
  std::vector<float> noise(pixels);
  std::fill(tokens_.begin(), tokens_.end(), kPadId);
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t image = std::min(first + row % batch_, images_ - 1);
    const Condition& condition = row < batch_ ? conditions_[image / options_.images_per_prompt] : negative_;
    if (shape_.reads_captions()) std::copy(condition.begin(), condition.end(), &tokens_[row * shape_.text_length]);
    token_counts_[row] = static_cast<int32_t>(condition.size());
    class_ids_[row] = condition.empty() ? 0 : condition[0];
    if (row >= batch_) continue;
    FillNormal({.seed = options_.seed, .purpose = NoisePurpose::kSamplingStart, .sample = image}, noise);
    ToPatches(grid_, noise, {x_.data() + static_cast<size_t>(row) * pixels, pixels});
  }
}

// All of them: their memory serves other tensors once they are read.
void ImageGenerator::WriteInputs(double time) {
  for (int64_t row = 0; row < rows_; ++row) {
    TimeFeatures(time, {time_features_.data() + row * kTimeFeatures, static_cast<size_t>(kTimeFeatures)});
  }
  const Graph& graph = inference_->graph();
  Executor& executor = inference_->executor();
  executor.WriteInput(graph.FindTensor("noisy"), x_.data());
  executor.WriteInput(graph.FindTensor("time_features"), time_features_.data());
  executor.WriteInput(graph.FindTensor("cos_sin"), cos_sin_.data());
  if (shape_.reads_captions()) {
    executor.WriteInput(graph.FindTensor("tokens"), tokens_.data());
    executor.WriteInput(graph.FindTensor("token_counts"), token_counts_.data());
  } else if (shape_.reads_classes()) {
    executor.WriteInput(graph.FindTensor("class_ids"), class_ids_.data());
  }
}

absl::Status ImageGenerator::Predict(double time) {
  const std::span<float> x = OfBatch(x_);
  if (guided()) std::copy(x.begin(), x.end(), x_.begin() + static_cast<int64_t>(x.size()));
  WriteInputs(time);
  Executor& executor = inference_->executor();
  RETURN_IF_ERROR(executor.RunMicroStep(0));
  const TensorId prediction = inference_->graph().FindTensor("prediction");
  if (inference_->graph().tensor(prediction).dtype == DType::kBFloat16) {
    std::vector<BFloat16> narrow(output_.size());
    executor.ReadOutput(prediction, narrow.data());
    Widen(output_, narrow);
  } else {
    executor.ReadOutput(prediction, output_.data());
  }
  if (!guided()) return absl::OkStatus();
  const std::span<const float> with = OfBatch(output_);
  Guide(options_.guidance, with, std::span(output_).subspan(with.size()), OfBatch(output_));
  return absl::OkStatus();
}

absl::Status ImageGenerator::SampleFlow() {
  const std::vector<double> times = FlowTimes(options_.steps, objective_.flow_shift);
  for (size_t i = 0; i + 1 < times.size(); ++i) {
    RETURN_IF_ERROR(Predict(times[i] * static_cast<double>(kDiffusionSteps)));
    FlowEulerStep(times[i], times[i + 1], OfBatch(output_), OfBatch(x_));
  }
  return absl::OkStatus();
}

absl::Status ImageGenerator::SampleDiffusion() {
  const auto schedule = DiffusionSchedule::ScaledLinear(kDiffusionSteps, objective_.beta_start, objective_.beta_end);
  const DpmSolverOptions options{.prediction = objective_.prediction == DitConfig::EPSILON ? Prediction::kEpsilon
                                                                                           : Prediction::kVelocity};
  const std::vector<TimeStep> steps = TimeSteps(SpacedTimes(kDiffusionSteps, options_.steps, TimeSpacing::kTrailing));
  for (size_t i = 0; i < steps.size(); ++i) {
    RETURN_IF_ERROR(Predict(static_cast<double>(steps[i].t)));
    DpmSolverStep(schedule, options, steps, static_cast<int64_t>(i), OfBatch(output_), OfBatch(previous_), OfBatch(x_));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GeneratedImage>> ImageGenerator::Run() {
  std::vector<GeneratedImage> made;
  const auto pixels = static_cast<size_t>(grid_.elements());
  std::vector<float> planes(pixels);
  for (int64_t first = 0; first < images_; first += batch_) {
    Start(first);
    RETURN_IF_ERROR(objective_.prediction == DitConfig::FLOW ? SampleFlow() : SampleDiffusion());
    for (int64_t row = 0; row < std::min(batch_, images_ - first); ++row) {
      FromPatches(grid_, {x_.data() + static_cast<size_t>(row) * pixels, pixels}, planes);
      const size_t prompt = static_cast<size_t>((first + row) / options_.images_per_prompt);
      made.push_back({options_.prompts.empty() ? "" : options_.prompts[prompt],
                      PlanesToImage(planes, static_cast<int32_t>(grid_.channels), static_cast<int32_t>(grid_.height),
                                    static_cast<int32_t>(grid_.width))});
    }
  }
  return made;
}

}  // namespace

absl::StatusOr<std::vector<GeneratedImage>> GenerateImages(const std::string& checkpoint_path,
                                                           const GenerateImagesOptions& options) {
  ImageGenerator generator(options);
  RETURN_IF_ERROR(generator.Load(checkpoint_path));
  return generator.Run();
}

}  // namespace angel_ptm
