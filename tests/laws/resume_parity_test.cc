// Laws 1 and 3 for the whole trainer, through real data, metrics and checkpoints. Six steps without a break, and three
// steps, a stop, and three more under another ZeRO stage, budget, page size and recomputation, print the same numbers
// and end with the same state. On another number of ranks they agree within rounding and see the same samples.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/data/loader.h"
#include "angel_ptm/data/packed_dataset.h"
#include "angel_ptm/train/train_state.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr int kWorld = 2;

class ResumeParityTest : public testing::TestWithParam<bool> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    PrepareTinyText(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }

  void SetUp() override {
    const TrainConfig config = Config("straight", {"sharding.zero_stage=0"});
    Run({.configs = {config}, .world_size = kWorld});
    lines_ = MetricLines(config);
    losses_ = Losses(config);
    state_ = State(config);
    std::filesystem::remove_all(config.output().directory());
    ASSERT_EQ(lines_.size(), 6u);
  }

  static TrainConfig Config(const std::string& run, const std::vector<std::string>& overrides = {}) {
    return TrainerConfig(GetParam(), folder_->path(), absl::StrCat(GetParam() ? "moe/" : "dense/", run), overrides);
  }
  static void Run(const TrainerRun& run) {
    const absl::Status status = RunTrainer(run).status();
    ASSERT_TRUE(status.ok()) << status;
  }
  static std::vector<float> State(const TrainConfig& config) {
    auto state = NewestState(config);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *std::move(state) : std::vector<float>();
  }
  bool SameState(const TrainConfig& config) const {
    const std::vector<float> other = State(config);
    return other.size() == state_.size() && !other.empty() &&
           std::memcmp(other.data(), state_.data(), other.size() * sizeof(float)) == 0;
  }
  // Trains two or three steps, stops, and trains the rest under a different configuration.
  static void RunInTwo(const TrainConfig& before, int world_before, const TrainConfig& after, int world_after) {
    Run({.configs = {before}, .world_size = world_before, .stop_in_step = 2});
    // With one micro-batch a step, the run ends after step 2. With more it ends within it, and the state before that
    // step is saved.
    const bool one = before.batch().global_batch_sequences() <= world_before * before.batch().micro_batch_sequences();
    ASSERT_EQ(MetricLines(before).size(), one ? 3u : 2u) << "the run did not stop in step 2";
    Run({.configs = {after}, .world_size = world_after, .resume = true});
  }

  static TemporaryFolder* folder_;
  std::vector<std::string> lines_;
  std::vector<double> losses_;
  std::vector<float> state_;
};
TemporaryFolder* ResumeParityTest::folder_ = nullptr;

TEST_P(ResumeParityTest, ContinuesBitForBitAtEveryStageAndBudget) {
  constexpr int kBudgets[] = {45, 100, 60, 0};  // percent after the resume, by stage before it; 0: none
  for (int zero = 0; zero < 4; ++zero) {
    SCOPED_TRACE(absl::StrCat("ZeRO ", zero, " before the resume"));
    const std::string name = absl::StrCat("stage", zero);
    const TrainConfig before = Config(name, {absl::StrCat("sharding.zero_stage=", zero), "memory.page_bytes=16384"});
    const std::vector<std::string> changes = {absl::StrCat("sharding.zero_stage=", (zero + 1) % 4),
                                              "memory.page_bytes=4096", "memory.prefetch_steps=2"};
    TrainConfig after = Config(name, changes);
    if (kBudgets[zero] > 0) {
      after.mutable_memory()->set_device_bytes(UnconstrainedDeviceBytes(after, kWorld) * kBudgets[zero] / 100);
    }
    RunInTwo(before, kWorld, after, kWorld);
    EXPECT_EQ(MetricLines(after), lines_);
    EXPECT_TRUE(SameState(after));
  }
}

TEST_P(ResumeParityTest, FaultsAreFound) {
  const TrainConfig before = Config("faulty"), after = Config("faulty", {"optimizer.adamw.learning_rate=0.0101"});
  RunInTwo(before, kWorld, after, kWorld);
  EXPECT_NE(MetricLines(after), lines_);
  EXPECT_FALSE(SameState(after));
}

// One rank finds the missing file; all ranks report it and say what to do.
TEST_P(ResumeParityTest, AFileThatIsMissingEndsAllRanksWithOneSentence) {
  const TrainConfig config = Config("missing", {"checkpoint.every_steps=2", "steps=4"});
  Run({.configs = {config}, .world_size = 2});
  const std::string newest = CheckpointDirectory(config) + "/step-00000004";
  for (const int lost : {0, 1}) {
    const std::string name = absl::StrCat("rank-0000", lost, "-of-00002.safetensors");
    std::filesystem::rename(newest + "/" + name, newest + "/aside");
    TrainConfig longer = config;
    longer.set_steps(6);
    const TrainerOutcome outcome = RunTrainer({.configs = {longer}, .world_size = 2, .resume = true});
    for (const absl::Status& status : outcome.statuses) {
      EXPECT_EQ(status.message(),
                absl::StrCat(lost == 0 ? "" : "rank 1: ", "the checkpoint ", newest, " is damaged: ", name,
                             " is missing; the checkpoint of step 2 is whole: to go on from "
                             "it, resume with --resume-from 2"));
    }
    std::filesystem::rename(newest + "/aside", newest + "/" + name);
  }
}

// A change that would make sample number i another sample is refused, and nothing is written.
TEST_P(ResumeParityTest, OtherSamplesAreRefused) {
  const TrainConfig config = Config("samples");
  Run({.configs = {config}, .world_size = kWorld, .stop_in_step = 2});
  const std::vector<std::string> lines = MetricLines(config);
  const TemporaryFolder other;
  PrepareTinyText(other.path(), /*seed=*/2);
  for (const std::string& change :
       {std::string("seed=2"), std::string("data.sequence_length=16"), "data.directory=" + other / "data"}) {
    const absl::Status status =
        RunTrainer({.configs = {Config("samples", {change})}, .world_size = kWorld, .resume = true}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << change << ": " << status;
    EXPECT_NE(status.message().find("was trained on other samples: tokenizer "), std::string::npos) << status;
  }
  EXPECT_EQ(MetricLines(config), lines);
}

// A change that would compute something else with weights of the same shapes is refused too. Fields that matter only at
// the start or to an exported model may change.
TEST_P(ResumeParityTest, AnotherModelOfTheSameShapesIsRefused) {
  const TrainConfig config = Config("model", {"steps=3"});
  Run({.configs = {config}, .world_size = 1, .stop_in_step = 1});
  const std::vector<std::string> lines = MetricLines(config);
  std::vector<std::pair<std::string, std::string>> changes = {
      {"rope_theta=20000", "rope_theta: wanted 10000, got 20000"},
      {"rope_alpha=2", "rope_alpha: wanted 0, got 2"},
      {"rms_norm_eps=1e-6", "rms_norm_eps: wanted 1e-05, got 1e-06"}};
  // For a model of other shapes, too, the error names the field, not the parameter that follows from it.
  changes.push_back({"num_hidden_layers=1", "num_hidden_layers: wanted 2, got 1"});
  if (GetParam()) changes.push_back({"moe_topk=1", "moe_topk: wanted 2, got 1"});
  for (const auto& [change, error] : changes) {
    const TrainConfig other = Config("model", {"steps=3", "model.hunyuan_lm." + change});
    const absl::Status status = RunTrainer({.configs = {other}, .world_size = 1, .resume = true}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << change << ": " << status;
    EXPECT_NE(status.message().find("is of another model: model.hunyuan_lm." + error), std::string::npos) << status;
  }
  EXPECT_EQ(MetricLines(config), lines);
  Run({.configs = {Config("model", {"steps=3", "model.hunyuan_lm.initializer_range=0.2", "model.hunyuan_lm.head_dim=0",
                                    "model.hunyuan_lm.max_position_embeddings=128"})},
       .world_size = 1,
       .resume = true});
}

// Running `prepare` again in the same folder, or removing the folder, does not affect a run that has opened it.
TEST_P(ResumeParityTest, SavesTheTokenizerThatWasOpened) {
  const TemporaryFolder own;
  PrepareTinyText(own.path());
  const std::string tokenizer = Slurp(own / "data/tokenizer.json");
  const std::string tokenizer_config = Slurp(own / "data/tokenizer_config.json");
  const TrainConfig config = Config("opened", {"data.directory=" + own / "data"});
  const auto replace = [&] {
    Spill(own / "data/tokenizer.json", "another");
    std::filesystem::remove(own / "data/tokenizer_config.json");
  };
  Run({.configs = {config}, .world_size = kWorld, .stop_in_step = 2, .before_stop = replace});
  const auto checkpoint = FindLatestCheckpoint(CheckpointDirectory(config));
  ASSERT_TRUE(checkpoint.ok());
  const auto reader = CheckpointReader::Open(checkpoint->path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->ReadCopiedFile("tokenizer.json").value(), tokenizer);
  EXPECT_EQ(reader->ReadCopiedFile("tokenizer_config.json").value(), tokenizer_config);
}

// Law 3 for the batch: a run continues after the samples it has seen, also with another batch size.
TEST_P(ResumeParityTest, AnotherBatchGoesOnBehindTheSamplesSeen) {
  const TrainConfig small = Config("batches", {"batch.global_batch_sequences=2", "steps=3"});
  const TrainConfig large = Config("batches", {"batch.global_batch_sequences=4", "steps=4"});
  Run({.configs = {small}, .world_size = kWorld});
  Run({.configs = {large}, .world_size = kWorld, .resume = true});
  const auto checkpoint = FindLatestCheckpoint(CheckpointDirectory(large));
  ASSERT_TRUE(checkpoint.ok());
  const auto reader = CheckpointReader::Open(checkpoint->path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto state = TrainStateFromJson(reader->manifest().trainer_state, checkpoint->path);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->next_step, 4);
  EXPECT_EQ(state->next_sample, 3 * 2 + 4);
}

TEST_P(ResumeParityTest, ContinuesOnAnotherNumberOfRanks) {
  for (const auto& [before, after] : {std::pair(2, 3), std::pair(3, 1), std::pair(1, 4)}) {
    const TrainConfig config = Config(absl::StrCat(before, "then", after));
    RunInTwo(config, before, config, after);
    const std::vector<double> losses = Losses(config);
    ASSERT_EQ(losses.size(), losses_.size());
    // The tolerance covers rounding (world_sizes_test.cc); one sample more or less would change the loss by a percent.
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i] / losses_[i], 1, 5e-6) << "step " << i;
  }
}

// Law 1 for the whole trainer with experts split over ranks, and resuming with another degree.
TEST_P(ResumeParityTest, GoesOnWithAnotherExpertDegree) {
  if (!GetParam()) GTEST_SKIP() << "there are no experts";
  const std::string split = "sharding.expert_degree=2", all = "sharding.expert_degree=1";
  const auto expect_near = [&](const TrainConfig& config) {
    const std::vector<double> losses = Losses(config);
    ASSERT_EQ(losses.size(), losses_.size());
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i] / losses_[i], 1, 5e-6) << "step " << i;
  };
  const TrainConfig straight = Config("split", {split, "sharding.zero_stage=1"});
  Run({.configs = {straight}, .world_size = kWorld});
  expect_near(straight);
  for (const int stage : {0, 3}) {
    const TrainConfig before = Config(absl::StrCat("split in two ", stage), {split, "sharding.zero_stage=2"});
    TrainConfig after = before;
    after.mutable_sharding()->set_zero_stage(stage);
    after.mutable_memory()->set_page_bytes(4096);
    after.mutable_memory()->set_device_bytes(UnconstrainedDeviceBytes(after, kWorld) * 60 / 100);
    RunInTwo(before, kWorld, after, kWorld);
    EXPECT_EQ(MetricLines(after), MetricLines(straight));
    EXPECT_EQ(State(after), State(straight));
  }
  const TrainConfig of_split = Config("joined", {split}), of_all = Config("joined", {all});
  RunInTwo(of_split, 2, of_all, 3);
  expect_near(of_all);
  const TrainConfig to_be_split = Config("parted", {all});
  RunInTwo(to_be_split, 1, Config("parted", {split}), 2);
  expect_near(to_be_split);
}

// A checkpoint of a bf16 run has fp32 parameters: a run of the other type resumes from it, and the other way round. The
// loss agrees within what rounding to 8 bits causes.
TEST_P(ResumeParityTest, GoesOnInAnotherType) {
  for (const bool to_bf16 : {true, false}) {
    const std::string name = absl::StrCat("type", to_bf16);
    const TrainConfig bf16 = Config(name, {"numerics.compute=BF16"}), fp32 = Config(name);
    RunInTwo(to_bf16 ? fp32 : bf16, kWorld, to_bf16 ? bf16 : fp32, kWorld);
    const std::vector<double> losses = Losses(fp32);
    ASSERT_EQ(losses.size(), losses_.size());
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i] / losses_[i], 1, 2e-2) << "step " << i;
    EXPECT_NE(losses, losses_);
  }
}

// Law 1 in bf16 for the whole trainer.
TEST_P(ResumeParityTest, ContinuesBitForBitInBf16) {
  const std::string bf16 = "numerics.compute=BF16";
  const TrainConfig straight = Config("bf16", {bf16, "sharding.zero_stage=1"});
  Run({.configs = {straight}, .world_size = kWorld});
  const TrainConfig before = Config("bf16 in two", {bf16, "sharding.zero_stage=3"});
  TrainConfig after = Config("bf16 in two", {bf16, "sharding.zero_stage=0", "memory.page_bytes=4096"});
  after.mutable_memory()->set_device_bytes(UnconstrainedDeviceBytes(after, kWorld) * 60 / 100);
  RunInTwo(before, kWorld, after, kWorld);
  EXPECT_EQ(MetricLines(after), MetricLines(straight));
  EXPECT_EQ(State(after), State(straight));
}

// A checkpoint holds no gradients: where and in which type they are kept may change on resume, and the run says so.
TEST_P(ResumeParityTest, GoesOnWithGradientsInTheParametersPlace) {
  const std::vector<std::string> fp32 = {"numerics.compute=BF16", "batch.micro_batch_sequences=4"};
  std::vector<std::string> bf16 = fp32;
  bf16.push_back("numerics.gradients=BF16");
  const TrainConfig straight = Config("gradients", fp32);
  Run({.configs = {straight}});
  RunInTwo(Config("gradients in two", fp32), 1, Config("gradients in two", bf16), 1);
  EXPECT_EQ(MetricLines(Config("gradients in two")), MetricLines(straight));
  EXPECT_EQ(State(Config("gradients in two")), State(straight));
}

INSTANTIATE_TEST_SUITE_P(Models, ResumeParityTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Moe" : "Dense"; });

// Law 3's order: on any number of ranks the samples come one after another, none skipped and none repeated.
TEST(SampleOrderTest, IsTheSameOnAnyNumberOfRanks) {
  constexpr int64_t kLength = 32, kGlobal = 8, kMicro = 2;
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const auto data = PackedDataset::Open(folder / "data/train.tokens", kLength);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto loader = Loader::Create(data->get(), {.global_batch = kGlobal, .micro_batch = kMicro, .seed = 3});
  ASSERT_TRUE(loader.ok());
  std::vector<int32_t> tokens(kMicro * kLength), targets(tokens), positions(tokens), starts(tokens);
  std::vector<int32_t> wanted(kLength), other1(wanted), other2(wanted), other3(wanted);
  int64_t step = 0, sample = 0;
  for (int64_t world : {1, 2, 3, 4, 8, 1}) {
    // The order continues past the end of an epoch.
    for (const int64_t end = step + loader->step_count() / 2; step < end; ++step) {
      int64_t seen = 0;
      for (int64_t micro = 0; micro < loader->MicroBatchesPerStep(world); ++micro) {
        for (int64_t rank = 0; rank < world; ++rank) {
          const int64_t counted =
              loader
                  ->FillMicroBatch({.first_sample = step * kGlobal, .micro = micro, .rank = rank, .world = world},
                                   {tokens, targets, positions, starts})
                  .value();
          if (counted == 0) continue;  // padding
          for (int64_t row = 0; row < kMicro; ++row, ++sample, ++seen) {
            ASSERT_TRUE(loader->FillSample(sample, {wanted, other1, other2, other3}).ok());
            ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), tokens.begin() + row * kLength))
                << "sample " << sample << " on " << world << " ranks";
          }
        }
      }
      ASSERT_EQ(seen, kGlobal);
    }
  }
}

}  // namespace
}  // namespace angel_ptm
