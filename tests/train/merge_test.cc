// The mean of checkpoints, element by element, and which checkpoints cannot be merged.
#include "angel_ptm/train/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "angel_ptm/train/generate.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/train_state.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

class MergeTest : public testing::Test {
 protected:
  // Two checkpoints of a run with an average of its weights, on two ranks.
  static const TrainConfig& Config() {
    static const TemporaryFolder folder;
    static TrainConfig config;
    if (config.has_model()) return config;
    PrepareTinyText(folder.path());
    config =
        TrainerConfig(true, folder.path(), "run", {"steps=4", "checkpoint.every_steps=2", "optimizer.ema_decay=0.5"});
    const absl::Status status = RunTrainer({.configs = {config}, .world_size = 2}).status();
    EXPECT_TRUE(status.ok()) << status;
    return config;
  }
  static std::string Step(int64_t step) {
    const auto complete = ListCompleteCheckpoints(CheckpointDirectory(Config()));
    for (const CompleteCheckpoint& checkpoint : *complete) {
      if (checkpoint.step == step) return checkpoint.path;
    }
    return "";
  }
  static std::vector<float> All(const std::string& path, const std::string& state) {
    const CheckpointReader checkpoint = CheckpointReader::Open(path).value();
    std::vector<float> all;
    for (size_t u = 0; u < checkpoint.manifest().units.size(); ++u) {
      std::vector<float> unit(static_cast<size_t>(checkpoint.manifest().units[u].elements));
      EXPECT_TRUE(checkpoint.ReadRange(static_cast<UnitId>(u), state, 0, unit).ok());
      all.insert(all.end(), unit.begin(), unit.end());
    }
    return all;
  }

  const TemporaryFolder folder_;
};

TEST_F(MergeTest, IsTheMeanByShares) {
  for (const char* weights : {"last", "ema"}) {
    const auto merged =
        MergeCheckpoints({.inputs = {{Step(2), 1}, {Step(4), 3}}, .weights = weights, .output = folder_ / weights});
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(merged->path, folder_ / weights + "/checkpoints/step-00000004");
    EXPECT_FALSE(std::filesystem::exists(folder_ / weights + "/lock"));
    const std::string state = weights == std::string("ema") ? "ema" : "parameters";
    const std::vector<float> a = All(Step(2), state), b = All(Step(4), state), mean = All(merged->path, "parameters");
    ASSERT_EQ(mean.size(), a.size());
    int differ = 0;
    for (size_t i = 0; i < mean.size(); ++i) {
      ASSERT_EQ(mean[i], static_cast<float>((static_cast<double>(a[i]) + 3 * static_cast<double>(b[i])) / 4)) << i;
      differ += a[i] != b[i];
    }
    EXPECT_GT(differ, 1000);
  }
}

TEST_F(MergeTest, CanBeSampledFromAndSaysWhatItIs) {
  const auto merged = MergeCheckpoints({.inputs = {{Step(2), 1}, {Step(4), 1}}, .output = folder_ / "mean"});
  ASSERT_TRUE(merged.ok()) << merged.status();
  const auto texts = Generate(merged->path, {.prompts = {"pages move"}, .tokens_max = 4});
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_FALSE((*texts)[0].tokens.empty());
  EXPECT_THAT(Slurp(merged->path + "/merged.json"), HasSubstr("\"share\": 0.5"));
  // It has no moments, so a run cannot resume from it.
  TrainConfig config = Config();
  config.mutable_output()->set_directory(folder_ / "mean");
  config.set_steps(6);
  const absl::Status resumed = RunTrainer({.configs = {config}, .world_size = 2, .resume = true}).status();
  EXPECT_THAT(std::string(resumed.message()), HasSubstr("holds no moment1 to go on with, as one that angel-ptm merge"));
}

TEST_F(MergeTest, RefusesWhatIsNoMean) {
  const auto error = [&](const MergeOptions& options) {
    return std::string(MergeCheckpoints(options).status().message());
  };
  TrainConfig other = TrainerConfig(true, folder_.path(), "run", {"steps=2", "model.hunyuan_lm.rope_theta=5000"});
  PrepareTinyText(folder_.path());
  const absl::Status trained = RunTrainer({.configs = {other}, .world_size = 2}).status();
  ASSERT_TRUE(trained.ok()) << trained;
  const std::string of_other = FindLatestCheckpoint(CheckpointDirectory(other)).value().path;
  EXPECT_THAT(error({.inputs = {{Step(2)}, {of_other}}, .output = folder_ / "out"}), HasSubstr("rope_theta"));
  EXPECT_THAT(error({.inputs = {{Step(2), -1}, {Step(4)}}, .output = folder_ / "out"}), HasSubstr("--share"));
  EXPECT_THAT(error({.inputs = {{Step(2), 0}, {Step(4), 0}}, .output = folder_ / "out"}), HasSubstr("--share"));
  EXPECT_THAT(error({.inputs = {{Step(2), 1e308}, {Step(4), 1e308}}, .output = folder_ / "out"}),
              HasSubstr("--share: wanted a finite sum above 0, got inf"));
  EXPECT_THAT(error({.inputs = {{Step(2)}, {Step(4)}}, .output = other.output().directory()}),
              HasSubstr("wanted a folder without checkpoints"));
  EXPECT_THAT(error({.inputs = {{of_other}, {of_other}}, .weights = "ema", .output = folder_ / "out"}),
              HasSubstr("has no average of the weights"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  // For example, a run that has begun there and has saved nothing yet.
  const absl::StatusOr<OutputLock> lock = OutputLock::Take(folder_ / "begun");
  ASSERT_TRUE(lock.ok()) << lock.status();
  const std::string in_use = error({.inputs = {{Step(2)}, {Step(4)}}, .output = folder_ / "begun"});
  EXPECT_THAT(in_use, HasSubstr("/begun is in use by process "));
  EXPECT_THAT(in_use, HasSubstr("wait for it or stop it, or choose another --output"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "begun/checkpoints"));
}

}  // namespace
}  // namespace angel_ptm
