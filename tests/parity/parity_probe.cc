// Writes what huggingface_parity.py compares: an exported random model, and this program's logits, gradients and ten
// AdamW steps.
//
//   parity_probe --config FILE [--set ...] --output DIR      -> DIR/export/, DIR/parity.safetensors
//
// The data directory of the configuration must be prepared; one micro-batch of it is the batch of everything. One rank,
// one thread.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/huggingface.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/tasks/hunyuan_lm.h"
#include "angel_ptm/train/tasks/token_feeder.h"
#include "comm/local.h"
#include "launch/arguments.h"
#include "optim/schedule.h"

namespace angel_ptm {
namespace {

constexpr int kSteps = 10;

// Named tensors of the dump.
class Dump {
 public:
  template <typename T>
  void Add(std::string name, Shape shape, std::span<const T> values) {
    const DType dtype = std::is_same_v<T, float> ? DType::kFloat32 : DType::kInt32;
    tensors_.push_back({.name = std::move(name), .dtype = dtype, .shape = std::move(shape)});
    const auto bytes = std::as_bytes(values);
    data_.emplace_back(bytes.begin(), bytes.end());
  }
  absl::Status Write(const std::string& path, const SafetensorsMetadata& metadata) const {
    ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors_, metadata));
    for (const auto& bytes : data_) RETURN_IF_ERROR(writer.Append(bytes));
    return writer.Finish();
  }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::vector<std::byte>> data_;
};

class Probe {
 public:
  Probe(const TrainConfig& config, std::string output)
      : config_(config), output_(std::move(output)), world_(1), communicator_(world_.Create(0)) {}

  absl::Status Run() {
    RETURN_IF_ERROR(Prepare());
    RETURN_IF_ERROR(Export());
    RETURN_IF_ERROR(Logits());
    RETURN_IF_ERROR(Steps());
    const AdamwConfig& adamw = config_.optimizer().adamw();
    return dump_.Write(
        output_ + "/parity.safetensors",
        {{"beta1", FormatExact(adamw.beta1())},
         {"beta2", FormatExact(adamw.beta2())},
         {"epsilon", FormatExact(adamw.epsilon())},
         {"weight_decay", FormatExact(adamw.weight_decay())},
         {"clip_norm", FormatExact(config_.optimizer().gradient_clip_norm())},
         {"router_aux_loss_coefficient", FormatExact(config_.model().hunyuan_lm().router_aux_loss_coefficient())}});
  }

 private:
  absl::Status Prepare();
  absl::Status Export();
  absl::Status Logits();
  absl::Status Steps();
  // Adds `prefix`<exported name> for every exported tensor: the values of one state times `scale`.
  void AddState(const std::string& prefix, StateId state, double scale);

  const TrainConfig& config_;
  const std::string output_;
  LocalWorld world_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<PackedDataset> dataset_;
  std::unique_ptr<TokenSource> samples_;
  std::vector<int32_t> token_bytes_;
  HunyuanLmShape shape_;
  HunyuanLmBatch batch_;
  std::unique_ptr<RunPlan> run_;
  Graph logits_graph_;
  Plan logits_plan_;
  std::unique_ptr<Tier> device_, host_;
  Lanes lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_, logits_executor_;
  std::unique_ptr<TokenFeeder> feeder_;
  std::vector<StateView> views_;
  Dump dump_;
};

absl::Status Probe::Prepare() {
  const std::string& directory = config_.data().directory();
  ASSIGN_OR_RETURN(dataset_, PackedDataset::Open(directory + "/train.tokens", config_.data().sequence_length()));
  ASSIGN_OR_RETURN(const Loader loader,
                   Loader::Create(dataset_.get(), {.global_batch = config_.batch().micro_batch_sequences(),
                                                   .micro_batch = config_.batch().micro_batch_sequences(),
                                                   .seed = config_.seed()}));
  samples_ = std::make_unique<TokenSource>(loader);
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::LoadFolder(directory));
  ASSIGN_OR_RETURN(run_, MakeRunPlan(config_, {.vocab_size = tokenizer->vocabulary_size()}));
  token_bytes_ = tokenizer->TokenByteLengths();
  shape_ = ShapeFromConfig(config_.model(), tokenizer->vocabulary_size());
  batch_ = BatchFromConfig(config_);
  logits_graph_ = BuildHunyuanLmLogits(shape_, batch_, run_->training.table);
  ASSIGN_OR_RETURN(const BackendFacts facts, FactsOf(logits_graph_, CpuKernels(), {.threads = 1}, 1));
  ASSIGN_OR_RETURN(logits_plan_, MakePlan(logits_graph_, facts,
                                          {.zero_stage = run_->training_plan.layout.zero_stage,
                                           .page_bytes = run_->training_plan.layout.page_bytes},
                                          &run_->training_plan.layout));
  const auto bytes = [&](int tier) {
    return std::max(run_->training_plan.arena_bytes[tier], logits_plan_.arena_bytes[tier]);
  };
  ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, bytes(0)));
  ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, bytes(1)));
  machine_ = {device_.get(), host_.get(), communicator_.get(), communicator_.get(), &CpuKernels(), &lanes_, 1, {}};
  const AdamwConfig& adamw = config_.optimizer().adamw();
  const AdamWConstants constants{static_cast<float>(adamw.beta1()), static_cast<float>(adamw.beta2()),
                                 static_cast<float>(adamw.epsilon()), static_cast<float>(adamw.weight_decay())};
  ASSIGN_OR_RETURN(executor_, Executor::Create(run_->training, run_->training_plan, machine_, constants));
  ASSIGN_OR_RETURN(logits_executor_, Executor::Create(logits_graph_, logits_plan_, machine_, constants));
  feeder_ = std::make_unique<TokenFeeder>(run_->training, *executor_, *samples_, token_bytes_);
  views_ = StateViews(run_->training_plan.layout, machine_);
  return InitialiseState(*run_->training.table, config_.seed(), views_);
}

absl::Status Probe::Export() {
  const std::string& directory = config_.data().directory();
  ASSIGN_OR_RETURN(const std::string tokenizer, ReadFile(directory + "/tokenizer.json"));
  ASSIGN_OR_RETURN(const std::string tokenizer_config, ReadFile(directory + "/tokenizer_config.json"));
  const HuggingFaceExport target{
      .model = shape_,
      .max_position_embeddings = config_.model().hunyuan_lm().max_position_embeddings(),
      .eos_token_id = kEndOfTextId,
      .pad_token_id = kPadId,
      .tokenizer_files = {{"tokenizer.json", tokenizer}, {"tokenizer_config.json", tokenizer_config}}};
  const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) {
    for (const StateView& view : views_) {
      if (view.unit != unit || view.state != PreciseState(run_->training.states())) continue;
      std::copy_n(view.stored().begin() + begin, out.size(), out.begin());
    }
    return absl::OkStatus();
  };
  std::error_code error;
  std::filesystem::create_directories(output_, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", output_, ": ", error.message()));
  return ExportHuggingFace(read, *run_->training.table, target, output_ + "/export");
}

absl::Status Probe::Logits() {
  const int64_t b = batch_.rows, s = batch_.sequence, v = shape_.vocab_size;
  std::map<std::string, std::vector<int32_t>> inputs;
  for (const char* name : {"tokens", "targets", "positions", "segment_start"}) inputs[name].resize(b * s);
  RETURN_IF_ERROR(
      samples_->loader()
          .FillMicroBatch({}, {inputs["tokens"], inputs["targets"], inputs["positions"], inputs["segment_start"]})
          .status());
  for (const auto& [name, values] : inputs) {
    dump_.Add<int32_t>(name, {b, s}, values);
    if (name != "targets") logits_executor_->WriteInput(logits_graph_.FindTensor(name), values.data());
  }
  RETURN_IF_ERROR(logits_executor_->RunMicroStep(0));
  std::vector<float> logits(b * s * v);
  logits_executor_->ReadOutput(logits_graph_.FindTensor("logits.c"), logits.data());
  dump_.Add<float>("logits", {b, s, v}, logits);
  return absl::OkStatus();
}

void Probe::AddState(const std::string& prefix, StateId state, double scale) {
  for (const StateView& view : views_) {
    if (view.state != state) continue;
    for (int32_t p : run_->training.units()[view.unit].parameters) {
      const Parameter& parameter = run_->training.parameters()[p];
      for (const ExportedName& exported : parameter.exported) {
        const int64_t begin = parameter.unit_offset + exported.offset;
        std::vector<float> values(view.stored().begin() + begin,
                                  view.stored().begin() + begin + exported.shape.elements());
        for (float& value : values) value = static_cast<float>(value * scale);
        dump_.Add<float>(prefix + exported.name, exported.shape, values);
      }
    }
  }
}

absl::Status Probe::Steps() {
  const AdamwConfig& adamw = config_.optimizer().adamw();
  std::vector<float> losses, norms, rates;
  for (int step = 0; step < kSteps; ++step) {
    rates.push_back(static_cast<float>(adamw.learning_rate() * (step + 1) / kSteps));
    const auto before_update = [&] {
      const StepSums& sums = executor_->SumsOf(step);
      losses.push_back(static_cast<float>(sums.loss / sums.weight));
      if (step == 0) {
        dump_.Add<float>("loss", {1}, losses);
        AddState("grad/", kGradientState, 1 / sums.weight);
      }
      return 0.0;
    };
    const auto decide = [&](const StepExchange& exchange) {
      const double count = exchange.sums.weight, norm = std::sqrt(exchange.sums.squares.ToDouble()) / count;
      const double t = step + 1, clip = ClipFactor(norm, config_.optimizer().gradient_clip_norm());
      norms.push_back(static_cast<float>(norm));
      return UpdateDecision{.scalars = {.learning_rate = rates.back(),
                                        .gradient_scale = static_cast<float>(clip / count),
                                        .bias_correction1 = static_cast<float>(1 - std::pow(adamw.beta1(), t)),
                                        .bias_correction2 = static_cast<float>(1 - std::pow(adamw.beta2(), t))}};
    };
    const StepHooks hooks{
        .feed = [&](int64_t, int64_t) { return feeder_->Feed({}).status(); }, .vote = before_update, .decide = decide};
    RETURN_IF_ERROR(executor_->Run(run_->training_plan.programs[0], step, 1, hooks));
  }
  dump_.Add<float>("learning_rates", {kSteps}, rates);
  dump_.Add<float>("losses", {kSteps}, losses);
  dump_.Add<float>("grad_norms", {kSteps}, norms);
  AddState("weights_after/", PreciseState(run_->training.states()), 1);
  return absl::OkStatus();
}

absl::Status RunProbe(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments, Arguments::Parse(words, {.flags = {"config", "set", "output"}}));
  ASSIGN_OR_RETURN(const std::string path, arguments.Require("config"));
  ASSIGN_OR_RETURN(const std::string output, arguments.Require("output"));
  ASSIGN_OR_RETURN(const TrainConfig config, LoadTrainConfig(path, arguments.All("set")));
  return Probe(config, output).Run();
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  const absl::Status status = angel_ptm::RunProbe(std::vector<std::string>(argv + 1, argv + argc));
  if (!status.ok()) std::fprintf(stderr, "parity_probe: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
