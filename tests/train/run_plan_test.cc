// Memory that no budget limits: on a machine without a GPU, both tiers share its memory.
#include "angel_ptm/train/run_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/plan/simulate.h"
#include "angel_ptm/plan/verify.h"
#include "angel_ptm/train/report/run_sheet.h"
#include "tests/config/example_config.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

// The bytes that a run takes: both tiers and its plan.
int64_t TierBytes(const RunPlan& run) {
  int64_t bytes = PlanBytes(run.training_plan);
  for (const int64_t arena : run.training_plan.arena_bytes) bytes += arena;
  return bytes;
}

RunFactsForPlan Within(int64_t tiers_bytes_max) { return {.tiers_bytes_max = tiers_bytes_max}; }

TEST(RunPlanTest, ARunThatFitsTheMachineIsPlannedAsWithoutALimit) {
  const auto unlimited = MakeRunPlan(ExampleConfig(), Within(0));
  ASSERT_TRUE(unlimited.ok()) << unlimited.status();
  const auto fits = MakeRunPlan(ExampleConfig(), Within(TierBytes(**unlimited)));
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_EQ(Hash((*fits)->training_plan), Hash((*unlimited)->training_plan));
}

// Bytes of a tier at each step of a segment: transient regions and those that stay.
std::vector<int64_t> AllBytes(const Segment& segment, TierKind tier) {
  std::vector<int64_t> bytes = LiveBytes(segment, tier);
  for (const Region& region : segment.regions) {
    if (!region.permanent || region.range.tier != tier) continue;
    for (int64_t& at_step : bytes) at_step += region.range.bytes;
  }
  return bytes;
}

TEST(RunPlanTest, MemoryOverAStepIsThatOfItsSegments) {
  const auto run = MakeRunPlan(ExampleConfig({"memory.page_bytes=4096", "memory.device_bytes=620000"}), Within(0));
  ASSERT_TRUE(run.ok()) << run.status();
  const Plan& plan = (*run)->training_plan;
  const std::vector<TierTimeline> timelines = MemoryOverStep(plan);
  ASSERT_EQ(timelines.size(), 2u);
  for (const TierKind tier : {TierKind::kDevice, TierKind::kHost}) {  // nothing is in the file
    const TierTimeline& timeline = timelines[static_cast<int>(tier)];
    std::vector<int64_t> wanted = AllBytes(plan.segments[kMicroStepSegment], tier);
    EXPECT_EQ(timeline.update_begin, static_cast<int64_t>(wanted.size()));
    const std::vector<int64_t> update = AllBytes(plan.segments[kUpdateSegment], tier);
    wanted.insert(wanted.end(), update.begin(), update.end());
    EXPECT_LE(timeline.steps.size(), 300u);
    int64_t fullest = 0;
    for (size_t i = 0; i < timeline.steps.size(); ++i) {
      int64_t sum = 0;
      for (const auto& [name, bytes] : timeline.classes) sum += bytes[i];
      EXPECT_EQ(sum, wanted[timeline.steps[i]]) << "plan step " << timeline.steps[i];
      fullest = std::max(fullest, sum);
    }
    EXPECT_EQ(fullest, *std::max_element(wanted.begin(), wanted.end()));
  }
}

TEST(RunPlanTest, RecomputesWhereTheMachineIsSmaller) {
  const auto unlimited = MakeRunPlan(ExampleConfig(), Within(0));
  ASSERT_TRUE(unlimited.ok()) << unlimited.status();
  EXPECT_EQ((*unlimited)->recomputed_blocks, 0);
  const auto smaller = MakeRunPlan(ExampleConfig(), Within(TierBytes(**unlimited) - 1));
  ASSERT_TRUE(smaller.ok()) << smaller.status();
  EXPECT_GT((*smaller)->recomputed_blocks, 0);
  EXPECT_LT(TierBytes(**smaller), TierBytes(**unlimited));
}

TEST(RunPlanTest, MoreThanTheMachineHasIsRefusedWithWhatWouldFit) {
  const TrainConfig config = ExampleConfig({"memory.recomputation=NONE"});
  const auto unlimited = MakeRunPlan(config, Within(0));
  ASSERT_TRUE(unlimited.ok()) << unlimited.status();
  const auto refused = MakeRunPlan(config, Within(TierBytes(**unlimited) - 1));
  ASSERT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  const std::string message(refused.status().message());
  EXPECT_THAT(message, HasSubstr("does not fit: the device tier needs "));
  EXPECT_THAT(message, HasSubstr(": 1 B more"));
  EXPECT_THAT(message, HasSubstr("; or set memory.recomputation=BLOCKS, or batch.micro_batch_sequences=1"));
}

// Seconds of a step of four micro-batches.
double StepSeconds(const RunPlan& run, const CostModel& cost) {
  return SimulateStep(run.training, run.training_plan, cost, 4).seconds;
}
// A device whose link to the host moves so many bytes per second.
CostModel WithLink(double bytes_per_second) {
  CostModel cost;
  cost.matrix[0].points = {{1e6, 1e12}};
  cost.device_memory = 1e12;
  cost.host_memory = cost.host_adamw = 1e12;
  cost.to_device = cost.to_host = bytes_per_second;
  return cost;
}

TEST(RunPlanTest, RecomputesWhereMovingActivationsWouldTakeLonger) {
  const std::vector<std::string> deep = {"model.hunyuan_lm.num_hidden_layers=8", "memory.page_bytes=4096"};
  const auto least = LeastDeviceBytes(ExampleConfig(deep), {});
  ASSERT_TRUE(least.ok()) << least.status();
  TrainConfig config = ExampleConfig(deep);
  config.mutable_memory()->set_device_bytes(*least + *least / 8);
  // No block has to be recomputed: the host has room for all activations.
  config.mutable_memory()->set_recomputation(MemoryConfig::NONE);
  const auto none = MakeRunPlan(config, {});
  ASSERT_TRUE(none.ok()) << none.status();
  config.mutable_memory()->set_recomputation(MemoryConfig::AUTO);
  const CostModel slow = WithLink(1e8), fast = WithLink(1e13);
  const auto by_slow = MakeRunPlan(config, {.cost = &slow}), by_fast = MakeRunPlan(config, {.cost = &fast});
  ASSERT_TRUE(by_slow.ok() && by_fast.ok());
  EXPECT_GT((*by_slow)->recomputed_blocks, 0);
  EXPECT_LT(StepSeconds(**by_slow, slow), 0.9 * StepSeconds(**none, slow));
  EXPECT_EQ((*by_fast)->recomputed_blocks, 0);
  // The choice is at least as fast as recomputing all blocks.
  config.mutable_memory()->set_recomputation(MemoryConfig::BLOCKS);
  const auto all = MakeRunPlan(config, {});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_LE(StepSeconds(**by_slow, slow), StepSeconds(**all, slow) * (1 + 1e-9));
}

// The number of bytes that a refusal names as the least.
int64_t LeastNamed(const absl::Status& refused) {
  const std::vector<std::string> parts =
      absl::StrSplit(refused.message(), absl::MaxSplits("the least that works is ", 1));
  const std::vector<std::string> in_bytes = absl::StrSplit(parts.back(), absl::ByAnyChar("()"));
  int64_t least = 0;
  EXPECT_TRUE(parts.size() == 2 && in_bytes.size() > 1 && absl::SimpleAtoi(in_bytes[1], &least)) << refused;
  return least;
}

TEST(RunPlanTest, RecomputesWhereActivationsInFilesWouldTakeLonger) {
  const std::vector<std::string> deep = {"model.hunyuan_lm.num_hidden_layers=8", "memory.page_bytes=8192",
                                         "memory.nvme.directory=/drive"};
  const auto least = LeastDeviceBytes(ExampleConfig(deep), {});
  ASSERT_TRUE(least.ok()) << least.status();
  TrainConfig config = ExampleConfig(deep);
  config.mutable_memory()->set_device_bytes(*least + *least / 8);
  config.mutable_memory()->set_recomputation(MemoryConfig::NONE);
  config.mutable_memory()->set_host_bytes(1);
  RunPlan none, by_slow, by_fast;
  config.mutable_memory()->set_host_bytes(LeastNamed(MakeTrainingPlan(config, {}, &none)) * 5 / 4);
  // No block has to be recomputed: the file has room for all activations.
  ASSERT_EQ(MakeTrainingPlan(config, {}, &none), absl::OkStatus());
  const TierPeak& in_file = none.training_plan.peaks[static_cast<int>(TierKind::kFile)];
  EXPECT_GT(in_file.by_class[static_cast<int>(MemoryClass::kActivations)], 0);
  config.mutable_memory()->set_recomputation(MemoryConfig::AUTO);
  CostModel slow = WithLink(1e13), fast = WithLink(1e13);
  slow.file_read = slow.file_write = 1e8;
  fast.file_read = fast.file_write = 1e13;
  ASSERT_EQ(MakeTrainingPlan(config, {.cost = &slow}, &by_slow), absl::OkStatus());
  ASSERT_EQ(MakeTrainingPlan(config, {.cost = &fast}, &by_fast), absl::OkStatus());
  EXPECT_GT(by_slow.recomputed_blocks, 0);
  EXPECT_LT(StepSeconds(by_slow, slow), 0.9 * StepSeconds(none, slow));
  EXPECT_EQ(by_fast.recomputed_blocks, 0);
}

// Every graph of a run refers to the task's table, the optimizer's rows included.
TEST(RunPlanTest, AllGraphsShareTheTasksTable) {
  const auto run = MakeRunPlan(ExampleConfig({"optimizer.ema_decay=0.9"}), Within(0));
  ASSERT_TRUE(run.ok()) << run.status();
  const ParameterTable& table = (*run)->task->parameters();
  EXPECT_EQ((*run)->training.table.get(), &table);
  EXPECT_EQ((*run)->evaluation.table.get(), &table);
  const auto decoding = (*run)->task->BuildDecoding(1, 8);
  ASSERT_TRUE(decoding.ok()) << decoding.status();
  EXPECT_EQ(decoding->table.get(), &table);
  EXPECT_EQ(table.states.size(), 5u);
  EXPECT_EQ((*run)->training_plan.layout.states, table.states);
}

// With a balance loss, a smaller micro-batch changes the loss, so the refusal does not propose it as a mere matter of
// memory.
TEST(RunPlanTest, AProposedMicroBatchThatChangesTheLossIsSaidTo) {
  const std::vector<std::string> moe = {"memory.recomputation=NONE", "model.hunyuan_lm.num_experts=4",
                                        "model.hunyuan_lm.moe_topk=2",
                                        "model.hunyuan_lm.router_aux_loss_coefficient=0.01"};
  const auto unlimited = MakeRunPlan(ExampleConfig(moe), Within(0));
  ASSERT_TRUE(unlimited.ok()) << unlimited.status();
  const absl::Status refused = MakeRunPlan(ExampleConfig(moe), Within(TierBytes(**unlimited) - 1)).status();
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("a smaller micro-batch changes the balance loss, and so what is learned; or set "));
}

// Pages that rest on the host take the same machine's memory, whatever the device's budget.
TEST(RunPlanTest, BothTiersCount) {
  const auto unlimited = MakeRunPlan(ExampleConfig({"memory.recomputation=NONE"}), Within(0));
  ASSERT_TRUE(unlimited.ok()) << unlimited.status();
  const int64_t budget = TierBytes(**unlimited) * 6 / 10;
  const TrainConfig config = ExampleConfig(
      {"memory.recomputation=NONE", "memory.page_bytes=4096", "memory.device_bytes=" + std::to_string(budget)});
  const auto split = MakeRunPlan(config, Within(0));
  ASSERT_TRUE(split.ok()) << split.status();
  ASSERT_GT((*split)->training_plan.arena_bytes[static_cast<int>(TierKind::kHost)], 0);
  EXPECT_TRUE(MakeRunPlan(config, Within(TierBytes(**split))).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(MakeRunPlan(config, Within(TierBytes(**split) - 1)).status()));
}

// A file takes memory, too: for a checksum of each block and for its tier's buffer.
TEST(RunPlanTest, AFilesMemoryCounts) {
  TrainConfig config = ExampleConfig(
      {"memory.recomputation=NONE", "memory.page_bytes=8192", "memory.nvme.directory=/drive", "memory.host_bytes=1"});
  const auto least = LeastDeviceBytes(config, {});
  ASSERT_TRUE(least.ok()) << least.status();
  config.mutable_memory()->set_device_bytes(*least);
  RunPlan run;
  config.mutable_memory()->set_host_bytes(LeastNamed(MakeTrainingPlan(config, {}, &run)));
  ASSERT_EQ(MakeTrainingPlan(config, {}, &run), absl::OkStatus());
  const std::array<int64_t, kTierCount>& arenas = run.training_plan.arena_bytes;
  ASSERT_GT(arenas[static_cast<int>(TierKind::kFile)], 0);
  const int64_t of_file = arenas[static_cast<int>(TierKind::kFile)] / 4096 * 8 + (1 << 20);
  EXPECT_EQ(HostBytesOfFile(run.training_plan), of_file);
  const int64_t all = arenas[static_cast<int>(TierKind::kDevice)] + arenas[static_cast<int>(TierKind::kHost)] +
                      of_file + PlanBytes(run.training_plan);
  EXPECT_EQ(MakeTrainingPlan(config, Within(all), &run), absl::OkStatus());
  const absl::Status refused = MakeTrainingPlan(config, Within(all - 1), &run);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(", the file's checksums and buffer 1."));
}

// Whatever the choice of recomputation, the least budget that a refusal names works, and one page less is refused with
// the same number.
TEST(RunPlanTest, TheLeastDeviceBudgetIsExact) {
  for (const char* recomputation : {"NONE", "BLOCKS", "AUTO"}) {
    for (const int layers : {1, 3}) {
      for (const int sequence : {16, 64}) {
        for (const int vocab : {64, 1024}) {
          const std::string text = absl::StrCat(recomputation, " ", layers, " ", sequence, " ", vocab);
          SCOPED_TRACE(text);
          TrainConfig config = ExampleConfig(
              {absl::StrCat("memory.recomputation=", recomputation), "memory.page_bytes=4096",
               absl::StrCat("model.hunyuan_lm.num_hidden_layers=", layers),
               absl::StrCat("model.hunyuan_lm.vocab_size=", vocab), absl::StrCat("data.sequence_length=", sequence)});
          const auto least = LeastDeviceBytes(config, Within(0));
          ASSERT_TRUE(least.ok()) << least.status();
          config.mutable_memory()->set_device_bytes(*least);
          const auto works = MakeRunPlan(config, Within(0));
          EXPECT_TRUE(works.ok()) << works.status();
          config.mutable_memory()->set_device_bytes(*least - 4096);
          const absl::Status refused = MakeRunPlan(config, Within(0)).status();
          ASSERT_TRUE(absl::IsResourceExhausted(refused)) << refused;
          EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("(", *least, ")")));
        }
      }
    }
  }
}

// A trillion parameters on ten thousand ranks, with the scratch memory that the transport really takes there.
TEST(RunPlanTest, ATrillionParametersOnTenThousandRanksHaveFewHoles) {
  if (kSanitized) GTEST_SKIP() << "a matter of numbers";
  auto config = LoadTrainConfig(CONFIGS_DIRECTORY "/moe_1t.textproto");
  ASSERT_TRUE(config.ok()) << config.status();
  const RunFactsForPlan facts{.world_size = 10'000, .threads = 16};
  const auto least = LeastDeviceBytes(*config, facts);
  ASSERT_TRUE(least.ok()) << least.status();
  for (const int64_t device_bytes : {int64_t{0}, *least + *least / 20}) {
    config->mutable_memory()->set_device_bytes(device_bytes);
    const auto run = MakeRunPlan(*config, facts);
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_LE(PackingLoss((*run)->training_plan, TierKind::kDevice), 0.05);
    EXPECT_LE(PackingLoss((*run)->training_plan, TierKind::kHost), 0.05);
  }
}

// A valid shape that the backend's kernels cannot run is refused during planning, not during the run.
TEST(RunPlanTest, ShapesTheBackendDoesNotRunAreRefused) {
  const auto run = MakeRunPlan(ExampleConfig({"model.hunyuan_lm.head_dim=512"}), Within(0));
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("takes an even head dimension from 2 to 256, got 512"));
}

}  // namespace
}  // namespace angel_ptm
