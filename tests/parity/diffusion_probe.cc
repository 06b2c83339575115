// Writes what diffusers_parity.py replays: for each sampler the start, the model's outputs, the noise, and x after each
// step.
//
//   diffusion_probe OUTPUT.safetensors
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/diffusion/samplers.h"
#include "angel_ptm/train/diffusion/schedule.h"

namespace angel_ptm {
namespace {

constexpr size_t kElements = 256;
constexpr double kFlowShift = 3;

class Recorder {
 public:
  // Takes one step: (index, output, second half of the output, noise, x).
  using Step = std::function<void(size_t, std::span<const float>, std::span<const float>, std::span<const float>,
                                  std::span<float>)>;

  void Run(const std::string& name, const std::vector<double>& times, size_t steps, const Step& step) {
    std::vector<float> all_times(times.begin(), times.end()), outputs, noises, path;
    std::vector<float> x = Normal(0);
    Add(name + "/start", {kElements}, x);
    for (size_t i = 0; i < steps; ++i) {
      const std::vector<float> output = Normal(3 * i + 1), noise = Normal(3 * i + 2);
      // The output of a model with learned variance, about -1..1.
      std::vector<float> fraction = Normal(3 * i + 3);
      for (float& value : fraction) value *= 0.3F;
      step(i, output, fraction, noise, x);
      outputs.insert(outputs.end(), output.begin(), output.end());
      outputs.insert(outputs.end(), fraction.begin(), fraction.end());
      noises.insert(noises.end(), noise.begin(), noise.end());
      path.insert(path.end(), x.begin(), x.end());
    }
    const int64_t n = static_cast<int64_t>(steps);
    Add(name + "/times", {static_cast<int64_t>(times.size())}, all_times);
    Add(name + "/outputs", {n, 2, kElements}, outputs);
    Add(name + "/noise", {n, kElements}, noises);
    Add(name + "/path", {n, kElements}, path);
  }

  void Add(std::string name, Shape shape, const std::vector<float>& values) {
    tensors_.push_back({.name = std::move(name), .dtype = DType::kFloat32, .shape = std::move(shape)});
    data_.push_back(values);
  }

  absl::Status Write(const std::string& path) const {
    ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors_, {}));
    for (const auto& values : data_) RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    return writer.Finish();
  }

  static std::vector<float> Normal(uint64_t stream) {
    std::vector<float> values(kElements);
    FillNormal({.seed = 7, .purpose = NoisePurpose::kSamplingStart, .stream = static_cast<uint32_t>(stream)}, values);
    return values;
  }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::vector<float>> data_;
};

struct Spacing {
  const char* name;
  TimeSpacing spacing;
};
constexpr Spacing kSpacings[] = {
    {"leading", TimeSpacing::kLeading}, {"linspace", TimeSpacing::kLinspace}, {"trailing", TimeSpacing::kTrailing}};
struct Kind {
  const char* name;
  Prediction prediction;
};
constexpr Kind kKinds[] = {{"epsilon", Prediction::kEpsilon}, {"v_prediction", Prediction::kVelocity}};

void RunDiffusion(const DiffusionSchedule& schedule, const Kind& kind, const Spacing& spacing, Recorder* recorder) {
  constexpr int64_t kSteps = 25;
  const auto name = [&](const char* sampler) { return absl::StrCat(sampler, "/", kind.name, "/", spacing.name); };
  const std::vector<int64_t> times = SpacedTimes(schedule.steps(), kSteps, spacing.spacing);
  const std::vector<double> shown(times.begin(), times.end());
  const std::vector<TimeStep> steps = TimeSteps(times);
  // With unevenly spaced times, the DDIM and DDPM of diffusers step past the next one.
  if (spacing.spacing != TimeSpacing::kLinspace) {
    for (const double eta : {0.0, 1.0}) {
      recorder->Run(name(eta == 0 ? "ddim" : "ddim_eta"), shown, steps.size(),
                    [&](size_t i, auto output, auto, auto noise, auto x) {
                      DdimStep(schedule, {.prediction = kind.prediction, .eta = eta}, steps[i], output, noise, x);
                    });
    }
    for (const bool learned : {false, true}) {
      recorder->Run(name(learned ? "ddpm_learned" : "ddpm"), shown, steps.size(),
                    [&](size_t i, auto output, auto fraction, auto noise, auto x) {
                      if (!learned) fraction = {};
                      DdpmStep(schedule, {.prediction = kind.prediction}, steps[i], output, fraction, noise, x);
                    });
    }
  }
  std::vector<int64_t> dpm_times = times;
  if (spacing.spacing != TimeSpacing::kTrailing) {
    dpm_times = SpacedTimes(schedule.steps(), kSteps + 1, spacing.spacing);
    dpm_times.pop_back();
  }
  const std::vector<TimeStep> dpm_steps = TimeSteps(dpm_times);
  std::vector<float> previous(kElements);
  recorder->Run(name("dpm"), {dpm_times.begin(), dpm_times.end()}, dpm_steps.size(),
                [&](size_t i, auto output, auto, auto, auto x) {
                  DpmSolverStep(schedule, {.prediction = kind.prediction}, dpm_steps, static_cast<int64_t>(i), output,
                                previous, x);
                });
}

absl::Status Probe(const std::string& path) {
  Recorder recorder;
  const DiffusionSchedule schedule = DiffusionSchedule::ScaledLinear(1000, 0.00085, 0.02);
  std::vector<float> alpha_bars;
  for (int64_t t = 0; t < schedule.steps(); ++t) alpha_bars.push_back(static_cast<float>(schedule.alpha_bar(t)));
  recorder.Add("alpha_bars", {schedule.steps()}, alpha_bars);
  const std::vector<float> clean = Recorder::Normal(0), eps = Recorder::Normal(1);
  for (const int64_t t : {0, 300, 999}) {
    std::vector<float> noisy(kElements), velocity(kElements);
    AddNoise(schedule.At(t), clean, eps, noisy);
    PredictionTarget(Prediction::kVelocity, schedule.At(t), clean, eps, velocity);
    recorder.Add(absl::StrCat("add_noise/", t), {kElements}, noisy);
    recorder.Add(absl::StrCat("velocity/", t), {kElements}, velocity);
  }
  recorder.Add("clean", {kElements}, clean);
  recorder.Add("eps", {kElements}, eps);
  for (const Kind& kind : kKinds) {
    for (const Spacing& spacing : kSpacings) RunDiffusion(schedule, kind, spacing, &recorder);
  }
  const std::vector<double> times = FlowTimes(20, kFlowShift);
  recorder.Run("flow", times, times.size() - 1,
               [&](size_t i, auto output, auto, auto, auto x) { FlowEulerStep(times[i], times[i + 1], output, x); });
  return recorder.Write(path);
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  const absl::Status status =
      argc == 2 ? angel_ptm::Probe(argv[1]) : absl::InvalidArgumentError("usage: diffusion_probe OUTPUT.safetensors");
  if (!status.ok()) std::fprintf(stderr, "diffusion_probe: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
