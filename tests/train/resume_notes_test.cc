#include "angel_ptm/train/resume_notes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "angel_ptm/train/start.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr int kTokens = 300;

TrainConfig Config(bool moe, const std::vector<std::string>& overrides = {}) {
  return TrainerConfig(moe, "folder", "run", overrides);
}

Numerics NumericsWith(const TrainConfig& config, const BuildFacts& build = {"abc", "x86-64-v3"}) {
  return NumericsOf(config, /*world_size=*/2, /*threads=*/1, "cpu", build);
}

// The notes of a run saved after three steps and resumed under `now`.
std::vector<std::string> Notes(const TrainConfig& saved, const TrainConfig& now) {
  const TrainState state{.next_step = 3, .numerics = NumericsWith(saved)};
  return ResumeNotes(saved, state, now, NumericsWith(now), *MakeTask(now, kTokens));
}

TEST(ResumeNotesTest, NoneIfNothingChanges) {
  EXPECT_THAT(Notes(Config(true), Config(true)), ElementsAre());
  EXPECT_THAT(
      Notes(Config(true), Config(true, {"memory.page_bytes=8192", "sharding.zero_stage=1", "checkpoint.every_steps=7",
                                        "output.log_every_steps=3", "evaluation.every_steps=5",
                                        "optimizer.skipped_steps_max=3", "model.hunyuan_lm.initializer_range=0.5"})),
      ElementsAre());
}

TEST(ResumeNotesTest, EveryFieldThatAltersTheCurveIsTold) {
  const struct {
    const char *change, *told;
  } cases[] = {{"optimizer.adamw.learning_rate=0.02", "optimizer.adamw.learning_rate: 0.01 -> 0.02"},
               {"optimizer.adamw.beta1=0.8", "optimizer.adamw.beta1: 0.9 -> 0.8"},
               {"optimizer.adamw.beta2=0.99", "optimizer.adamw.beta2: 0.95 -> 0.99"},
               {"optimizer.adamw.epsilon=1e-6", "optimizer.adamw.epsilon: 1e-08 -> 1e-06"},
               {"optimizer.adamw.weight_decay=0", "optimizer.adamw.weight_decay: 0.1 -> 0"},
               {"optimizer.gradient_clip_norm=2", "optimizer.gradient_clip_norm: 1 -> 2"},
               {"optimizer.schedule.kind=LINEAR", "optimizer.schedule.kind: COSINE -> LINEAR"},
               {"optimizer.schedule.warmup_steps=1", "optimizer.schedule.warmup_steps: 2 -> 1"},
               {"optimizer.schedule.final_learning_rate_ratio=0", "final_learning_rate_ratio: 0.1 -> 0"},
               {"steps=12", "steps: 6 -> 12"},
               {"batch.global_batch_sequences=8", "batch.global_batch_sequences: 4 -> 8"},
               {"model.hunyuan_lm.router_aux_loss_coefficient=0.1", "router_aux_loss_coefficient: 0.01 -> 0.1"}};
  for (const auto& c : cases) {
    const std::vector<std::string> notes = Notes(Config(true), Config(true, {c.change}));
    ASSERT_FALSE(notes.empty()) << c.change;
    EXPECT_THAT(notes[0], HasSubstr("what is learned changes from here on: "));
    EXPECT_THAT(notes[0], HasSubstr(c.told));
    // No note says that the run continues within rounding.
    for (const std::string& note : notes) EXPECT_THAT(note, Not(HasSubstr("within rounding"))) << c.change;
  }
}

TEST(ResumeNotesTest, TheJumpOfTheLearningRateIsTold) {
  EXPECT_THAT(Notes(Config(false), Config(false, {"steps=100"})),
              ElementsAre(HasSubstr("steps: 6 -> 100 (the learning rate of step 3: 0.00")));
  // With as many digits as a person reads.
  EXPECT_THAT(
      Notes(Config(false), Config(false, {"steps=7"})),
      ElementsAre("what is learned changes from here on: steps: 6 -> 7 (the learning rate of step 3: 0.00775 -> "
                  "0.00868198)"));
  const std::vector<std::string> constant = {"optimizer.schedule.kind=CONSTANT"};
  EXPECT_THAT(Notes(Config(false, constant), Config(false, {constant[0], "steps=100"})), ElementsAre());
}

// The balance loss is computed per micro-batch, so the micro-batch size is part of what a mixture of experts learns.
TEST(ResumeNotesTest, TheMicroBatchMattersToABalanceLossAlone) {
  const std::string micro = "batch.micro_batch_sequences=2";
  EXPECT_THAT(Notes(Config(true), Config(true, {micro}))[0],
              HasSubstr("batch.micro_batch_sequences: 1 -> 2 (the balance loss is that of one micro-batch)"));
  EXPECT_THAT(Notes(Config(false), Config(false, {micro})),
              ElementsAre("the numerics change: micro-batch 1 of 4 x 32 -> 2 of 4 x 32: the run continues within "
                          "rounding, not bit for bit"));
}

TEST(ResumeNotesTest, AnotherBuildOrLibraryContinuesWithinRounding) {
  const TrainConfig config = Config(false);
  const auto task = MakeTask(config, kTokens);
  TrainState state{.next_step = 3, .numerics = NumericsWith(config)};
  const auto notes = [&](const Numerics& now) { return ResumeNotes(config, state, config, now, *task); };
  EXPECT_THAT(
      notes(NumericsWith(config, {"def", "x86-64-v4"})),
      ElementsAre("the numerics change: build abc -> def, kernels for x86-64-v3 -> x86-64-v4: the run continues "
                  "within rounding, not bit for bit"));
  TrainConfig by_nccl = config;
  by_nccl.mutable_numerics()->set_sums(NumericsConfig::NCCL_SUMS);
  EXPECT_THAT(notes(NumericsWith(by_nccl)),
              ElementsAre(HasSubstr("the numerics change: sums in rank order -> NCCL's")));
  EXPECT_THAT(notes(NumericsOf(config, {2, 2}, /*threads=*/1, "cpu", {"abc", "x86-64-v3"})), ElementsAre());
  Numerics in_nodes = NumericsOf(config, {8, 2}, /*threads=*/1, "cpu", {"abc", "x86-64-v3"});
  EXPECT_THAT(notes(in_nodes), ElementsAre(HasSubstr("world size 2 -> 8, ranks of a node all -> 2:")));
  // Older checkpoints do not record this field; they were made when all ranks were one node.
  std::erase_if(in_nodes, [](const auto& field) { return field.first == "ranks of a node"; });
  AddWhatWasNotRecorded(in_nodes);
  EXPECT_THAT(in_nodes, testing::Contains(testing::Pair("ranks of a node", "all")));
  Numerics now = NumericsWith(config);
  ASSERT_EQ(now.back().first, "matrix library");
  EXPECT_THAT(now.back().second, HasSubstr("OpenBLAS "));
  state.numerics.back().second = "OpenBLAS 0.0 Elsewhere";
  EXPECT_THAT(notes(now), ElementsAre(HasSubstr("matrix library OpenBLAS 0.0 Elsewhere -> ")));
}

// The text that checkpoints had before numerics had fields.
TEST(ResumeNotesTest, WhatATextDoesNotRecordIsSaid) {
  const TrainConfig config = Config(false);
  TrainState state{.next_step = 3};
  state.numerics =
      NumericsFromText("backend cpu, world size 4, threads 1, micro-batch 1 of 4 x 32, head chunk 20, expert block 8");
  EXPECT_THAT(
      ResumeNotes(config, state, config, NumericsWith(config), *MakeTask(config, kTokens)),
      ElementsAre("the numerics change: world size 4 -> 2: the run continues within rounding, not bit for bit",
                  "the checkpoint does not record these numerics: build, kernels for, matrix library; if they differ, "
                  "the run continues within rounding"));
}

TEST(TrainStateTest, NumericsAreReadBack) {
  TrainState state{.next_step = 3};
  state.numerics = NumericsWith(Config(false));
  const auto back = TrainStateFromJson(ToJson(state), "x");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_THAT(Compare(back->numerics, state.numerics).changed, ElementsAre());
  EXPECT_THAT(Compare(back->numerics, state.numerics).unrecorded, ElementsAre());
}

TEST(ResumeTest, AFinishedRunHasNothingToDo) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const auto config = [&](const std::string& steps) { return TrainerConfig(false, folder.path(), "run", {steps}); };
  ASSERT_TRUE(RunTrainer({.configs = {config("steps=6")}}).status().ok());
  const std::vector<std::string> lines = MetricLines(config("steps=6"));
  for (const char* steps : {"steps=6", "steps=3"}) {
    const TrainerOutcome outcome = RunTrainer({.configs = {config(steps)}, .resume = true});
    EXPECT_TRUE(outcome.status().ok()) << outcome.status();
    EXPECT_THAT(outcome.text, HasSubstr("nothing to do: step 6 is reached and steps is "));
    EXPECT_EQ(MetricLines(config("steps=6")), lines);
  }
}

}  // namespace
}  // namespace angel_ptm
