// Law 4: ranks that plan different sequences of collectives are stopped before step 0, and every rank names the
// difference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "comm/forwarding_communicator.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

struct Deviation {
  std::string name;
  std::string change;        // --set of rank 1
  std::string rank0, rank1;  // what the error says of each
};
void PrintTo(const Deviation& deviation, std::ostream* os) { *os << deviation.name; }

class OneSequenceTest : public testing::TestWithParam<Deviation> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    PrepareTinyText(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }
  static TemporaryFolder* folder_;
};
TemporaryFolder* OneSequenceTest::folder_ = nullptr;

TEST_P(OneSequenceTest, ADifferenceIsNamedBeforeStepZero) {
  const TrainConfig usual = TrainerConfig(true, folder_->path(), GetParam().name);
  const TrainConfig other = TrainerConfig(true, folder_->path(), GetParam().name, {GetParam().change});
  const TrainerOutcome outcome = RunTrainer({.configs = {usual, other, usual}, .world_size = 3});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 plans " + GetParam().rank0));
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 plans " + GetParam().rank1));
  }
  std::printf("  %s\n", std::string(outcome.statuses[0].message()).c_str());
  EXPECT_EQ(outcome.last_step_begun, -1);
  EXPECT_FALSE(std::filesystem::exists(usual.output().directory() + "/metrics.jsonl"));
}

INSTANTIATE_TEST_SUITE_P(
    Deviations, OneSequenceTest,
    testing::Values(
        Deviation{"Stage", "sharding.zero_stage=2", "#0 all-gather embedding parameters",
                  "#0 reduce-scatter head gradients"},
        Deviation{"Layers", "model.hunyuan_lm.num_hidden_layers=3", "#5 all-gather head parameters",
                  "#5 all-gather layers.2.dense parameters"},
        Deviation{"Width", "model.hunyuan_lm.intermediate_size=48",
                  "#2 all-gather layers.0.experts parameters 48.0 KiB",
                  "#2 all-gather layers.0.experts parameters 72.0 KiB"},
        Deviation{"Accumulation", "batch.global_batch_sequences=8", "#0 barrier at step 0 of 6 (2 micro-batches a step",
                  "#0 barrier at step 0 of 6 (3 micro-batches a step"},
        Deviation{"Steps", "steps=7", "#0 barrier at step 0 of 6", "#0 barrier at step 0 of 7"},
        Deviation{"Evaluation", "evaluation.every_steps=2",
                  "#0 barrier at step 0 of 6 (2 micro-batches a step, evaluation of 3 samples every 3 steps",
                  "#0 barrier at step 0 of 6 (2 micro-batches a step, evaluation of 3 samples every 2 steps"},
        Deviation{"Checkpoints", "checkpoint.every_steps=2",
                  "#0 barrier at step 0 of 6 (2 micro-batches a step, evaluation of 3 samples every 3 steps, "
                  "checkpoint every 0)",
                  "#0 barrier at step 0 of 6 (2 micro-batches a step, evaluation of 3 samples every 3 steps, "
                  "checkpoint every 2)"},
        Deviation{"LearningRate", "optimizer.adamw.learning_rate=0.02", "#4 barrier under configuration ",
                  "#4 barrier under configuration "},
        Deviation{"Samples", "seed=2", "#1 barrier before sample 0, tokenizer ",
                  "#1 barrier before sample 0, tokenizer "}),
    [](const auto& test) { return test.param.name; });

// The degree decides the ranks' groups before there is a plan to compare.
TEST(OneDegreeTest, AnotherIsNamedBeforeThereAreGroups) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig usual = TrainerConfig(true, folder.path(), "run");
  const TrainConfig other = TrainerConfig(true, folder.path(), "run", {"sharding.expert_degree=2"});
  const TrainerOutcome outcome = RunTrainer({.configs = {usual, other}, .world_size = 2});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("sharding.expert_degree is 1 on rank 0 and 2 on rank 1, wanted the same"));
  }
}

// Records the names of the calls on one communicator.
class Listening final : public ForwardingCommunicator {
 public:
  Listening(Communicator& inner, std::set<std::string>& names) : ForwardingCommunicator(inner), names_(names) {}

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    names_.emplace(tag.what);
    return ForwardingCommunicator::AllGather(dst, src, tag);
  }
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    names_.emplace(tag.what);
    return ForwardingCommunicator::AllToAll(dst, src, tag);
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    names_.emplace(tag.what);
    return ForwardingCommunicator::Broadcast(dst, root, tag);
  }
  absl::Status Barrier(CallTag tag) override {
    names_.emplace(tag.what);
    return ForwardingCommunicator::Barrier(tag);
  }

 private:
  std::set<std::string>& names_;
};

// The communicator for the units' data needs only two verbs, apart from the checks of law 4: control data travels on
// another one.
TEST(TwoCommunicatorsTest, ControlDataDoesNotTravelWithTheUnits) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config =
      TrainerConfig(true, folder.path(), "run", {"checkpoint.every_steps=2", "batch.global_batch_sequences=8"});
  std::vector<std::set<std::string>> names(2);
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2, .wrap = [&](Communicator& inner) {
                                               return std::make_unique<Listening>(inner, names[inner.rank()]);
                                             }});
  ASSERT_TRUE(outcome.status().ok()) << outcome.status();
  int units = 0;
  for (const std::string& name : names[1]) {
    if (name == "comparison of planned collectives" || name == "collectives so far") continue;
    ++units;
    EXPECT_THAT(name, testing::ContainsRegex("^(all-gather|reduce-scatter) .* (parameters|gradients)$"));
  }
  EXPECT_GT(units, 5);
  EXPECT_EQ(names[0], names[1]);
}

// Ranks with another program, processor, library or number of threads would compute other bits, so they are refused.
TEST(OneNumericsTest, AnotherBuildIsNamedBeforeStepZero) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainerOutcome outcome =
      RunTrainer({.configs = {TrainerConfig(true, folder.path(), "run")}, .world_size = 2, .commits = {"abc", "def"}});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 1 computes with other numerics than rank 0 (rank 0's -> its own): build abc -> def: "));
  }
  EXPECT_EQ(outcome.last_step_begun, -1);
}

// Rank 1 receives a digest of rank 0's plan that differs from its own plan's.
class AnotherPlan final : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;

  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    RETURN_IF_ERROR(ForwardingCommunicator::Broadcast(dst, root, tag));
    // The length comes first.
    if (tag.what == "plan of rank 0" && rank() == 1 && dst.size() > 16) dst.back() ^= std::byte{1};
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return SplitInto(color, tag, [](Communicator& group) { return std::make_unique<AnotherPlan>(group); });
  }
};

TEST(OnePlanTest, AnotherPlanIsNamedBeforeStepZero) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainerOutcome outcome = RunTrainer(
      {.configs = {TrainerConfig(true, folder.path(), "run")}, .world_size = 2, .wrap = [](Communicator& inner) {
         return std::make_unique<AnotherPlan>(inner);
       }});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 has another plan than rank 0: the digests of "));
  }
  EXPECT_EQ(outcome.last_step_begun, -1);
}

// Processes and machines differ in how much memory they have; all ranks make the plan that fits the smallest machine.
TEST(OnePlanTest, IsThatOfTheMachineWithTheLeastMemory) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config =
      TrainerConfig(true, folder.path(), "run",
                    {"batch.micro_batch_sequences=4", "batch.global_batch_sequences=8", "data.sequence_length=64"});
  // Without recomputation, the device tier alone takes a little more than rank 1's share of its machine.
  constexpr int kRanks = 2;
  const int64_t share = UnconstrainedDeviceBytes(config, kRanks) - 1;
  const int64_t small = share * kRanks * 5 / 4, large = TrainerFacts(kRanks).machine_memory_bytes;
  const TrainerOutcome outcome =
      RunTrainer({.configs = {config}, .world_size = kRanks, .machine_memory_bytes = {large, small}});
  ASSERT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_THAT(outcome.text, HasSubstr(" blocks recomputed\n"));
}

// Calls within a group are compared among its ranks before every checkpoint.
class GroupsHeard final : public ForwardingCommunicator {
 public:
  GroupsHeard(Communicator& inner, std::map<std::string, std::set<std::string>>& names)
      : ForwardingCommunicator(inner), names_(names) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    std::set<std::string>& names = names_[std::string(tag.what)];
    return SplitInto(color, tag, [&names](Communicator& group) { return std::make_unique<Listening>(group, names); });
  }

 private:
  std::map<std::string, std::set<std::string>>& names_;  // by what a group is
};

TEST(TwoCommunicatorsTest, HistoriesOfGroupsAreCompared) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config =
      TrainerConfig(true, folder.path(), "groups", {"sharding.expert_degree=2", "checkpoint.every_steps=3"});
  std::vector<std::map<std::string, std::set<std::string>>> names(2);
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2, .wrap = [&](Communicator& inner) {
                                               return std::make_unique<GroupsHeard>(inner, names[inner.rank()]);
                                             }});
  ASSERT_TRUE(outcome.status().ok()) << outcome.status();
  for (const char* group : {"ranks with the same experts", "ranks with all experts"}) {
    EXPECT_EQ(names[1][group].count("collectives of groups so far"), 1u) << group;
  }
}

}  // namespace
}  // namespace angel_ptm
