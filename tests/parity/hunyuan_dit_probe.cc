// Writes what hunyuan_dit_parity.py compares: the outputs and gradients of a diffusers HunyuanDiT2DModel on given
// inputs, latents that are sampled with each method, guided, and the model exported again.
//
//   hunyuan_dit_probe --config FILE [--set ...] --model DIR [--controlnet DIR --control-scale X] --input FILE --output
//   DIR
//     -> DIR/results.safetensors, DIR/export/, of a model with a branch DIR/export_controlnet/
//
// The input is a file of latents (train/tasks/latents.h), which are taken for noisy ones, with two more tensors: times
// [N] and targets like the latents. N is the micro-batch. The scale is of samples alone. One rank, one thread.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/diffusers.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/tasks/generate_latents.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/tasks/latents.h"
#include "comm/local.h"
#include "launch/arguments.h"

namespace angel_ptm {
namespace {

class Results {
 public:
  void Add(std::string name, Shape shape, std::vector<float> values) {
    tensors_.push_back({.name = std::move(name), .shape = std::move(shape)});
    values_.push_back(std::move(values));
  }
  absl::Status Write(const std::string& path) const {
    ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors_, {}));
    for (const std::vector<float>& values : values_) RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    return writer.Finish();
  }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::vector<float>> values_;
};

class HunyuanProbe {
 public:
  HunyuanProbe(const TrainConfig& config, std::string output)
      : config_(config),
        output_(std::move(output)),
        shape_(HunyuanDitShapeFromConfig(config.model())),
        batch_(config.batch().micro_batch_sequences()),
        world_(1),
        communicator_(world_.Create(0)) {}

  absl::Status Run(const std::string& model, const std::string& controlnet, const std::string& input,
                   double control_scale) {
    RETURN_IF_ERROR(MakeDirectories(output_));
    RETURN_IF_ERROR(MakeExecutors());
    RETURN_IF_ERROR(ReadModel(model, controlnet));
    RETURN_IF_ERROR(ReadInput(input));
    RETURN_IF_ERROR(Forward());
    RETURN_IF_ERROR(Gradients());
    for (const SamplingMethod method : {SamplingMethod::kDdpm, SamplingMethod::kDdim, SamplingMethod::kDpmSolver}) {
      RETURN_IF_ERROR(Sample(input, method, control_scale));
    }
    RETURN_IF_ERROR(results_.Write(output_ + "/results.safetensors"));
    const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) {
      return Parameters(unit).Read(begin, out);
    };
    const ParameterTable& table = *run_->training.table;
    RETURN_IF_ERROR(ExportDiffusers(read, table, shape_, DiffusersPart::kModel, output_ + "/export"));
    if (!shape_.control) return absl::OkStatus();
    return ExportDiffusers(read, table, shape_, DiffusersPart::kControlNet, output_ + "/export_controlnet");
  }

 private:
  const StateView& Parameters(UnitId unit) const {
    for (const StateView& view : views_) {
      if (view.unit == unit && view.state == kParameterState) return view;
    }
    APTM_CHECK(false, "unit ", unit, " has no parameters");
  }
  PatchGrid Grid(int64_t channels, bool channels_last) const {
    return {channels, shape_.height, shape_.width, shape_.patch_size, channels_last};
  }
  absl::Status MakeExecutors();
  absl::Status ReadModel(const std::string& model, const std::string& controlnet);
  absl::Status ReadInput(const std::string& path);
  absl::Status Forward();
  absl::Status Gradients();
  absl::Status Sample(const std::string& input, SamplingMethod method, double control_scale);
  absl::StatusOr<Plan> PlanForward(const Graph& graph) const;

  const TrainConfig& config_;
  const std::string output_;
  const HunyuanDitShape shape_;
  const int64_t batch_;
  LocalWorld world_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<RunPlan> run_;
  Graph forward_, sampling_;
  Plan forward_plan_, sampling_plan_;
  std::unique_ptr<Tier> device_, host_;
  Lanes lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_, forward_executor_, sampling_executor_;
  std::vector<StateView> views_;
  std::unique_ptr<HunyuanInputs> inputs_;
  std::vector<float> noisy_, target_;
  Results results_;
};

absl::StatusOr<Plan> HunyuanProbe::PlanForward(const Graph& graph) const {
  const Layout& layout = run_->training_plan.layout;
  ASSIGN_OR_RETURN(const BackendFacts facts, FactsOf(graph, CpuKernels(), {.threads = 1}, 1));
  return MakePlan(graph, facts, {.zero_stage = layout.zero_stage, .page_bytes = layout.page_bytes}, &layout);
}

absl::Status HunyuanProbe::MakeExecutors() {
  ASSIGN_OR_RETURN(run_, MakeRunPlan(config_, {.vocab_size = 1}));
  forward_ = BuildHunyuanDitForward(shape_, batch_, run_->training.table);
  sampling_ = BuildHunyuanDitForward(shape_, 2 * batch_, run_->training.table);
  ASSIGN_OR_RETURN(forward_plan_, PlanForward(forward_));
  ASSIGN_OR_RETURN(sampling_plan_, PlanForward(sampling_));
  const auto bytes = [&](int tier) {
    return std::max(
        {run_->training_plan.arena_bytes[tier], forward_plan_.arena_bytes[tier], sampling_plan_.arena_bytes[tier]});
  };
  ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, bytes(0)));
  ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, bytes(1)));
  machine_ = {device_.get(), host_.get(), communicator_.get(), communicator_.get(), &CpuKernels(), &lanes_, 1, {}};
  ASSIGN_OR_RETURN(executor_, Executor::Create(run_->training, run_->training_plan, machine_, {}));
  ASSIGN_OR_RETURN(forward_executor_, Executor::Create(forward_, forward_plan_, machine_, {}));
  ASSIGN_OR_RETURN(sampling_executor_, Executor::Create(sampling_, sampling_plan_, machine_, {}));
  views_ = StateViews(run_->training_plan.layout, machine_);
  return absl::OkStatus();
}

absl::Status HunyuanProbe::ReadModel(const std::string& model, const std::string& controlnet) {
  const auto write = [&](UnitId unit, int64_t begin, std::span<const float> values) {
    return Parameters(unit).Write(begin, values);
  };
  const ParameterTable& table = *run_->training.table;
  ASSIGN_OR_RETURN(const WeightsReader weights, OpenDiffusers(model, table, shape_, DiffusersPart::kModel));
  RETURN_IF_ERROR(weights.ReadAll(write));
  if (!shape_.control) return absl::OkStatus();
  ASSIGN_OR_RETURN(const WeightsReader branch, OpenDiffusers(controlnet, table, shape_, DiffusersPart::kControlNet));
  return branch.ReadAll(write);
}

absl::Status HunyuanProbe::ReadInput(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<LatentFile> file, LatentFile::Open(path, shape_));
  ASSIGN_OR_RETURN(const SafetensorsReader more, SafetensorsReader::Open(path));
  const SafetensorsTensor *times = more.Find("times"), *targets = more.Find("targets");
  if (file->count() != batch_ || times == nullptr || targets == nullptr || times->shape != Shape{batch_}) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", batch_, " latents, times and targets"));
  }
  std::vector<float> time(static_cast<size_t>(batch_)), target(static_cast<size_t>(targets->shape.elements()));
  RETURN_IF_ERROR(more.Read(*times, 0, std::as_writable_bytes(std::span(time))));
  RETURN_IF_ERROR(more.Read(*targets, 0, std::as_writable_bytes(std::span(target))));
  inputs_ = std::make_unique<HunyuanInputs>(shape_, batch_, file->scratch_elements());
  const PatchGrid in = Grid(shape_.channels, false), out = Grid(shape_.channels, true);
  const auto pixels = static_cast<size_t>(in.elements());
  noisy_.resize(static_cast<size_t>(batch_) * pixels);
  target_.resize(noisy_.size());
  for (int64_t row = 0; row < batch_; ++row) {
    const size_t at = static_cast<size_t>(row) * pixels;
    RETURN_IF_ERROR(file->Read(row, false, false, inputs_->Row(row)));
    ToPatches(in, inputs_->latent(), {noisy_.data() + at, pixels});
    ToPatches(out, {target.data() + at, pixels}, {target_.data() + at, pixels});
    inputs_->Finish(row, static_cast<double>(time[row]));
  }
  return absl::OkStatus();
}

absl::Status HunyuanProbe::Forward() {
  inputs_->Write(forward_, *forward_executor_);
  forward_executor_->WriteInput(forward_.FindTensor("noisy"), noisy_.data());
  const std::vector<float> ones(static_cast<size_t>(shape_.hidden_size), 1.0f);
  if (shape_.control) forward_executor_->WriteInput(forward_.FindTensor("control_scale"), ones.data());
  RETURN_IF_ERROR(forward_executor_->RunMicroStep(0));
  const PatchGrid grid = Grid(shape_.out_channels(), true);
  const auto pixels = static_cast<size_t>(grid.elements());
  std::vector<float> patches(static_cast<size_t>(batch_) * pixels), images(patches.size());
  forward_executor_->ReadOutput(forward_.FindTensor("prediction"), patches.data());
  for (int64_t row = 0; row < batch_; ++row) {
    const size_t at = static_cast<size_t>(row) * pixels;
    FromPatches(grid, {patches.data() + at, pixels}, {images.data() + at, pixels});
  }
  results_.Add("prediction", {batch_, shape_.out_channels(), shape_.height, shape_.width}, std::move(images));
  return absl::OkStatus();
}

// The gradients of the mean over the batch, read before the update of a step that changes nothing.
absl::Status HunyuanProbe::Gradients() {
  const Graph& graph = run_->training;
  const auto count = static_cast<float>(batch_);
  const auto feed = [&](int64_t, int64_t) {
    inputs_->Write(graph, *executor_);
    const std::vector<float> ones(static_cast<size_t>(batch_), 1.0f);
    executor_->WriteInput(graph.FindTensor("noisy"), noisy_.data());
    executor_->WriteInput(graph.FindTensor("target"), target_.data());
    executor_->WriteInput(graph.FindTensor("sample_weight"), ones.data());
    executor_->WriteInput(graph.FindTensor("weight"), &count);
    return absl::OkStatus();
  };
  absl::Status read;
  const auto before_update = [&] {
    results_.Add("loss", {1}, {static_cast<float>(executor_->SumsOf(0).loss) / count});
    for (const StateView& view : views_) {
      if (view.state != kGradientState) continue;
      for (const int32_t p : graph.units()[view.unit].parameters) {
        const Parameter& parameter = graph.parameters()[p];
        for (const ExportedName& exported : parameter.exported) {
          std::vector<float> values(static_cast<size_t>(exported.shape.elements()));
          read.Update(view.Read(parameter.unit_offset + exported.offset, values));
          for (float& value : values) value /= count;
          results_.Add("grad/" + exported.name, exported.shape, std::move(values));
        }
      }
    }
    return 0.0;
  };
  const auto decide = [](const StepExchange&) { return UpdateDecision{.apply = false}; };
  RETURN_IF_ERROR(
      executor_->Run(run_->training_plan.programs[0], 0, 1, {.feed = feed, .vote = before_update, .decide = decide}));
  return read;
}

// Uses the noise that the latents were made from; the noise of the steps follows that of the start.
absl::Status HunyuanProbe::Sample(const std::string& input, SamplingMethod method, double control_scale) {
  BatchOptions options{.sampling = HunyuanSampling(config_.model().hunyuan_dit()), .guidance = 3, .batch = batch_};
  options.sampling.method = method;
  options.sampling.steps = 5;
  ASSIGN_OR_RETURN(const std::unique_ptr<LatentFile> texts, LatentFile::OpenTexts(input, shape_));
  LatentConditions conditions(shape_, *texts, {0, 1}, /*samples_per_prompt=*/1, options.rows(), control_scale);
  BatchSampler sampler(options, NoisyGrid(shape_), PredictionGrid(shape_), {{&sampling_, sampling_executor_.get()}},
                       conditions);
  const std::vector<int64_t> numbers = {0, 1};
  RETURN_IF_ERROR(sampler.Make(numbers));
  const std::span<const float> latents = sampler.samples();
  const std::string name = absl::StrCat("sampled/", Name(method));
  results_.Add(name, {batch_, shape_.channels, shape_.height, shape_.width}, {latents.begin(), latents.end()});
  std::vector<float> noise;
  for (int64_t step = -1; step < options.sampling.steps; ++step) {
    for (const int64_t number : numbers) {
      std::vector<float> one(static_cast<size_t>(NoisyGrid(shape_).elements()));
      FillNormal({.seed = options.sampling.seed,
                  .purpose = step < 0 ? NoisePurpose::kSamplingStart : NoisePurpose::kSamplingStep,
                  .sample = number,
                  .stream = static_cast<uint32_t>(std::max<int64_t>(0, step))},
                 one);
      noise.insert(noise.end(), one.begin(), one.end());
    }
  }
  results_.Add(name + "/noise", {options.sampling.steps + 1, batch_, shape_.channels, shape_.height, shape_.width},
               std::move(noise));
  return absl::OkStatus();
}

absl::Status RunHunyuanProbe(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words, {.flags = {"config", "set", "model", "controlnet", "control-scale", "input", "output"}}));
  ASSIGN_OR_RETURN(const std::string path, arguments.Require("config"));
  ASSIGN_OR_RETURN(const std::string model, arguments.Require("model"));
  ASSIGN_OR_RETURN(const std::string input, arguments.Require("input"));
  ASSIGN_OR_RETURN(const std::string output, arguments.Require("output"));
  ASSIGN_OR_RETURN(const TrainConfig config, LoadTrainConfig(path, arguments.All("set")));
  ASSIGN_OR_RETURN(const double control_scale, arguments.GetDouble("control-scale", 1));
  return HunyuanProbe(config, output).Run(model, arguments.Get("controlnet", ""), input, control_scale);
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  const absl::Status status = angel_ptm::RunHunyuanProbe(std::vector<std::string>(argv + 1, argv + argc));
  if (!status.ok()) std::fprintf(stderr, "hunyuan_dit_probe: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
