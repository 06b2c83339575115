// A run whose numbers become non-finite keeps what it can return to, and says how to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/train/train_state.h"
#include "comm/forwarding_communicator.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// In one step, what the ranks gather for the gradient norm is not a number. That step is skipped and leaves no trace.
class OneBadNorm final : public ForwardingCommunicator {
 public:
  OneBadNorm(Communicator& inner, int64_t step) : ForwardingCommunicator(inner), step_(step) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return SplitInto(color, tag, [this](Communicator& group) { return std::make_unique<OneBadNorm>(group, step_); });
  }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    const absl::Status status = ForwardingCommunicator::AllGather(dst, src, tag);
    if (tag.step == step_ && tag.what.find("norm") != std::string_view::npos) std::memset(dst.data(), 0xff, dst.size());
    return status;
  }

 private:
  const int64_t step_;
};

class DivergenceTest : public testing::Test {
 protected:
  DivergenceTest() { PrepareTinyText(folder_.path()); }

  // Six healthy steps.
  void Train(const std::string& every_steps) {
    every_steps_ = "checkpoint.every_steps=" + every_steps;
    ASSERT_TRUE(RunTrainer({.configs = {Config({})}}).status().ok());
  }
  // The seventh update spoils the weights, so every later step is skipped.
  TrainConfig Spoilt(std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"steps=60", "optimizer.adamw.learning_rate=1e30", "optimizer.schedule.kind=CONSTANT"});
    return Config(more);
  }
  TrainConfig Config(std::vector<std::string> overrides) const {
    overrides.insert(overrides.end(), {every_steps_, "evaluation.every_steps=0"});
    return TrainerConfig(/*moe=*/false, folder_.path(), "run", overrides);
  }
  std::vector<int64_t> Steps(const std::string& folder = "checkpoints") const {
    std::vector<int64_t> steps;
    const auto checkpoints = ListCompleteCheckpoints(folder_ / ("run/" + folder)).value();
    for (const CompleteCheckpoint& checkpoint : checkpoints) steps.push_back(checkpoint.step);
    return steps;
  }

  const TemporaryFolder folder_;
  std::string every_steps_;
};

TEST_F(DivergenceTest, NothingIsSavedOrPrunedWhileStepsAreSkipped) {
  Train("2");
  ASSERT_THAT(Steps(), ElementsAre(4, 6));
  const TrainerOutcome outcome = RunTrainer({.configs = {Spoilt()}, .resume = true});
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kFailedPrecondition) << outcome.status();
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("the last healthy checkpoint is that of step 6 in "));
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(": --resume continues from it"));
  EXPECT_THAT(std::string(outcome.status().message()),
              HasSubstr("--resume-from also accepts the older ones of steps 4"));
  EXPECT_THAT(outcome.text, HasSubstr("warning: no checkpoint of step 8: the last step was skipped"));
  EXPECT_THAT(Steps(), ElementsAre(4, 6));
}

// If the last step before a save spoils the weights, only the next step reveals it.
TEST_F(DivergenceTest, ACheckpointWithWhichTheNextStepIsNonFiniteIsNotCalledHealthy) {
  Train("1");
  ASSERT_THAT(Steps(), ElementsAre(5, 6));
  const absl::Status status = RunTrainer({.configs = {Spoilt()}, .resume = true}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("the last healthy checkpoint is that of step 6 in "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(": --resume-from 6 continues from it"));
  EXPECT_THAT(Steps(), ElementsAre(6, 7));

  // The way back: newer checkpoints are set aside with their history, so that a later --resume takes the new course.
  const TrainerOutcome back = RunTrainer({.configs = {Config({"steps=9"})}, .resume_from = 6});
  ASSERT_TRUE(back.status().ok()) << back.status();
  EXPECT_THAT(back.text, HasSubstr("checkpoints/step-00000006 at step 6"));
  EXPECT_THAT(Steps(), ElementsAre(8, 9));
  EXPECT_THAT(Steps("set-aside"), ElementsAre(7));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/set-aside/metrics.jsonl"));
  EXPECT_EQ(MetricLines(Config({})).size(), 9u);
}

// The search for the first bad tensor begins after the next step's first micro-batch. By then gradients may have taken
// the parameters' places, so the parameters are made again for it.
TEST_F(DivergenceTest, WhatWentBadFirstIsFoundWhereGradientsTookThePlaceOfParameters) {
  const auto found = [&](const std::string& gradients) {
    std::filesystem::remove_all(folder_ / "run");
    const std::vector<std::string> bf16 = {"numerics.compute=BF16", "batch.micro_batch_sequences=4",
                                           "numerics.gradients=" + gradients};
    every_steps_ = "checkpoint.every_steps=1000";
    const std::string message(RunTrainer({.configs = {Spoilt(bf16)}}).status().message());
    return message.substr(message.find("the first tensor that went bad"));
  };
  const std::string wanted = found("FP32");
  EXPECT_THAT(wanted, HasSubstr("written by "));
  EXPECT_EQ(found("BF16"), wanted);
}

TEST_F(DivergenceTest, AStopSavesBesideTheCheckpoints) {
  Train("2");
  const TrainerOutcome outcome = RunTrainer({.configs = {Spoilt()}, .resume = true, .stop_in_step = 9});
  EXPECT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_THAT(Steps(), ElementsAre(4, 6));
  EXPECT_THAT(Steps("diverged"), ElementsAre(9));
  EXPECT_THAT(outcome.text,
              HasSubstr("this one is kept apart from the other checkpoints, because the last 2 steps were skipped"));
  EXPECT_THAT(outcome.text, HasSubstr("the last healthy checkpoint is that of step 6 in "));
}

// A step is skipped between two saves. Whether the weights of the later checkpoint are good shows only in the next
// interval.
TEST_F(DivergenceTest, TheLastHealthyCheckpointStaysUntilAnIntervalWithoutSkippedSteps) {
  every_steps_ = "checkpoint.every_steps=2";
  const auto train = [&](const std::string& steps) {
    std::filesystem::remove_all(folder_ / "run");
    const TrainerOutcome outcome =
        RunTrainer({.configs = {Config({steps, "checkpoint.keep_last=1"})},
                    .wrap = [](Communicator& inner) { return std::make_unique<OneBadNorm>(inner, /*step=*/5); }});
    EXPECT_TRUE(outcome.status().ok()) << outcome.status();
    EXPECT_THAT(outcome.text, HasSubstr("1 step skipped as non-finite"));
    return Steps();
  };
  EXPECT_THAT(train("steps=8"), ElementsAre(4, 8));
  EXPECT_THAT(train("steps=10"), ElementsAre(10));
}

TEST_F(DivergenceTest, AStepWithoutACheckpointIsRefusedAndTheOthersNamed) {
  Train("2");
  const absl::Status status = RunTrainer({.configs = {Config({"steps=9"})}, .resume_from = 5}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--resume-from: there is no checkpoint of step 5 in "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("which has those of steps 4, 6"));
}

}  // namespace
}  // namespace angel_ptm
