// Law 1 for a branch that is trained beside a frozen model (model.hunyuan_dit.control). Training changes none of the
// model's weights, and the model takes no memory for gradients or optimizer states.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/train/import.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "tests/laws/diffusion_run.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/sanitized.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_latents.h"

namespace angel_ptm {
namespace {

// The parameter is the compute type.
class ControlParity : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const HunyuanDitShape shape = HunyuanDitShapeFromConfig(Config("unused").model());
    OrDie(WriteTinyLatents(folder_ / "train.safetensors", shape, 7, 1));
    OrDie(WriteTinyLatents(folder_ / "validation.safetensors", shape, 4, 2));
  }
  TrainConfig Config(const std::string& run, const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> all = {absl::StrCat("data.directory=", folder_.path()),
                                    absl::StrCat("output.directory=", folder_.path(), "/", run),
                                    absl::StrCat("numerics.compute=", GetParam()),
                                    "model.hunyuan_dit.num_hidden_layers=6",
                                    "model.hunyuan_dit.control=true",
                                    "batch.global_batch_sequences=6",
                                    "sampling.every_steps=3",
                                    "sampling.prompt=[0, 2]",
                                    "sampling.guidance=2"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return OrDie(ParseTrainConfig(absl::StrCat(kTinyHunyuanDit, kDiffusionTraining), "control_parity_test.cc", all));
  }
  // Imports random weights into the model; units of the same name get the same weights, and those of the branch are
  // copies of the model's. The weights are exact in bf16, because frozen units have only bf16 parameters.
  static void Import(const TrainConfig& config) {
    const std::unique_ptr<Task> task = OrDie(OpenTask(config));
    const ParameterTable& table = task->parameters();
    const ReadParameters read = [&](UnitId unit, int64_t begin, std::span<float> out) {
      const bool branch = IsOfControl(table.units[unit]);
      const UnitId source = branch ? HunyuanControlSource(table, unit) : unit;
      std::ranges::fill(out, 0.0f);
      if (source == kNone) return absl::OkStatus();
      const auto stream = static_cast<uint32_t>(Hasher().Mix(table.units[source].name).Digest());
      for (size_t i = 0; i < out.size(); ++i) {
        const uint64_t index = static_cast<uint64_t>(begin) + i;
        const float value = 0.2f * RandomNormal(3, RandomPurpose::kInitialisation, stream, index);
        out[i] = ToFloat(ToBFloat16(value));
      }
      return absl::OkStatus();
    };
    OrDie(ImportWeights(config, *task, read));
  }
  static TrainerOutcome Resume(const TrainConfig& config, int world_size = 2) {
    TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = world_size, .resume = true});
    EXPECT_TRUE(outcome.status().ok()) << outcome.status();
    return outcome;
  }
  TrainConfig Trained(const std::string& run, const std::vector<std::string>& overrides) const {
    const TrainConfig config = Config(run, overrides);
    Import(config);
    Resume(config);
    return config;
  }
  std::string Budget(double share) const { return DeviceBudget(Config("unused"), share); }

  const TemporaryFolder folder_;
};

TEST_P(ControlParity, SameBitsForStagesBudgetsAndResume) {
  const std::vector<std::string> in_full = {"sharding.zero_stage=0", "memory.recomputation=NONE"};
  const TrainConfig fresh = Config("plain", in_full);
  EXPECT_THAT(RunTrainer({.configs = {fresh}, .world_size = 2}).status().message(),
              testing::HasSubstr("model.hunyuan_dit.control: there is no model to train the branch beside: wanted a "
                                 "checkpoint in "));
  Import(fresh);
  const std::map<std::string, std::vector<float>> before = StatesOf(fresh);
  Resume(fresh);
  const std::vector<std::string> lines = MetricLines(fresh);
  ASSERT_EQ(lines.size(), 6u);
  const std::map<std::string, std::vector<float>> states = StatesOf(fresh);

  const TrainConfig tight = Trained("tight", {Budget(0.5), "memory.recomputation=BLOCKS"});
  EXPECT_EQ(MetricLines(tight), lines);
  EXPECT_EQ(StatesOf(tight), states);
  EXPECT_EQ(SamplesOf(tight, 6), SamplesOf(fresh, 6));

  Trained("resumed", {"sharding.zero_stage=2", "steps=3"});
  const TrainConfig resumed = Config("resumed", {Budget(0.7)});
  Resume(resumed);
  EXPECT_EQ(StatesOf(resumed), states);
  const std::vector<std::string> resumed_lines = MetricLines(resumed);
  ASSERT_EQ(resumed_lines.size(), 6u);
  EXPECT_EQ(std::vector(resumed_lines.begin() + 3, resumed_lines.end()), std::vector(lines.begin() + 3, lines.end()));

  // The model is unchanged and has nothing but its parameters. All blocks and projections of the branch have changed.
  for (const auto& [name, values] : states) {
    const std::string unit = name.substr(0, name.find(' ')), state = name.substr(unit.size() + 1);
    const bool trained =
        unit.starts_with("control.blocks.") || unit.starts_with("control.projections.") || unit == "control.input";
    if (state == "parameters") {
      EXPECT_EQ(values == before.at(name), !trained) << name;
    } else {
      EXPECT_TRUE(trained) << name;
    }
  }
  EXPECT_EQ(states.size(), before.size() + 3 * 5);  // two blocks, two projections, what the condition enters by
}

// A new branch has no effect: the first loss of the run is that of the model alone.
TEST_P(ControlParity, TheFirstLossIsTheModelsOwn) {
  const TrainConfig with = Trained("with", {"steps=2"});
  const TrainConfig alone = Trained("alone", {"steps=2", "model.hunyuan_dit.control=false"});
  const std::vector<double> losses = Losses(with), of_model = Losses(alone);
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0], of_model[0]);
  EXPECT_NE(losses[1], of_model[1]);
}

TEST_P(ControlParity, TheModelTakesNoMemoryForStates) {
  const auto plan = OrDie(MakeRunPlan(Config("unused"), {.world_size = 1}));
  const Layout& layout = plan->training_plan.layout;
  std::array<int64_t, kMemoryClassCount> wanted = {};
  for (UnitId unit = 0; unit < static_cast<UnitId>(layout.slices.size()); ++unit) {
    const std::string& name = plan->training.units()[unit].name;
    const bool trained =
        name.starts_with("control.blocks.") || name.starts_with("control.projections.") || name == "control.input";
    const int64_t elements = layout.whole_elements(unit);
    for (StateId state = 0; state < static_cast<StateId>(layout.states.size()); ++state) {
      const MemoryClass memory_class = state == kParameterState  ? MemoryClass::kParameters
                                       : state == kGradientState ? MemoryClass::kGradients
                                                                 : MemoryClass::kOptimizer;
      if (trained || state == kParameterState) {
        wanted[static_cast<int>(memory_class)] += layout.bytes(state, elements);
      }
    }
  }
  const auto& got = plan->training_plan.peaks[static_cast<int>(TierKind::kDevice)].by_class;
  for (const MemoryClass memory_class : {MemoryClass::kParameters, MemoryClass::kGradients, MemoryClass::kOptimizer}) {
    EXPECT_EQ(got[static_cast<int>(memory_class)], wanted[static_cast<int>(memory_class)]) << Name(memory_class);
  }
  EXPECT_GT(wanted[static_cast<int>(MemoryClass::kOptimizer)], 0);
}

INSTANTIATE_TEST_SUITE_P(Types, ControlParity, testing::ValuesIn(FewerIfSanitized<const char*>(1, {"BF16", "FP32"})),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace angel_ptm
