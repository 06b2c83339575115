// The largest model fits and the next one does not; the fastest plan found is the fastest of all.
#include "angel_ptm/train/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/cluster.h"
#include "tests/config/example_config.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

// Tiers are small and links are slow, so plans differ.
Cluster Small() {
  const auto cluster = ParseCluster(R"(
      devices_per_node: 2
      device {
        bytes: 3000000 memory_bytes_per_second: 1e11 launch_seconds: 1e-6
        matrix { type: FP32 peak_flops_per_second: 1e12 at { work: 1e6 per_second: 2e11 } at { work: 1e9 per_second: 1e12 } }
      }
      host { bytes: 6000000 cores: 8 memory_bytes_per_second: 2e10 adamw_bytes_per_second: 2e10 }
      link { to_device_bytes_per_second: 1e9 to_host_bytes_per_second: 1e9 latency_seconds: 1e-6 }
      inside_node { bytes_per_second: 1e9 }
  )",
                                    "small");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *cluster;
}

TrainConfig Config(RunFactsForPlan* facts, const std::vector<std::string>& overrides = {}) {
  auto config = ExampleWith(overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  config->mutable_memory()->set_page_bytes(65536);
  config = WithBudgetsOf(Small(), *config, facts);
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

TEST(ScaledModelTest, GrowsInDeclaredSteps) {
  const ModelConfig model = ExampleWith({})->model();
  EXPECT_EQ(ScaledModel(model, ScaleAxis::kDepth, 7).hunyuan_lm().num_hidden_layers(), 7);
  EXPECT_EQ(ScaledModel(model, ScaleAxis::kDepth, 7).hunyuan_lm().hidden_size(), 64);
  // Width grows in steps: two of them are the model itself, three are half as much again.
  const HunyuanLmConfig same = ScaledModel(model, ScaleAxis::kWidth, 2).hunyuan_lm();
  EXPECT_EQ(same.hidden_size(), 64);
  EXPECT_EQ(same.intermediate_size(), 32);
  EXPECT_EQ(same.num_attention_heads(), 4);
  const HunyuanLmConfig wider = ScaledModel(model, ScaleAxis::kWidth, 3).hunyuan_lm();
  EXPECT_EQ(wider.hidden_size(), 96);
  EXPECT_EQ(wider.intermediate_size(), 48);
  EXPECT_EQ(wider.num_attention_heads(), 6);
  EXPECT_EQ(wider.num_key_value_heads(), 3);
  EXPECT_EQ(wider.head_dim(), 16);
  EXPECT_EQ(wider.num_hidden_layers(), 2);
}

TEST(FindLargestModelTest, ItFitsAndTheNextDoesNot) {
  for (const ScaleAxis axis : FewerIfSanitized(1, {ScaleAxis::kDepth, ScaleAxis::kWidth})) {
    RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
    const TrainConfig config = Config(&facts);
    const auto largest = FindLargestModel(config, Small(), facts, axis);
    ASSERT_TRUE(largest.ok()) << largest.status();
    EXPECT_GT(largest->steps, 2);
    TrainConfig next = config;
    *next.mutable_model() = ScaledModel(config.model(), axis, largest->steps + 1);
    EXPECT_TRUE(MakeRunPlan(largest->config, facts).ok());
    const absl::Status refused = MakeRunPlan(next, facts).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
    EXPECT_FALSE(largest->refusal.empty());
    // No plan keeps more state than there is room for.
    const auto parameters = static_cast<double>(largest->run->training.table->ParameterCount());
    EXPECT_DOUBLE_EQ(largest->bytes_per_parameter, 16);
    EXPECT_DOUBLE_EQ(largest->budget_bytes, 2 * (3e6 + 3e6));
    EXPECT_LE(parameters * largest->bytes_per_parameter, largest->budget_bytes);
    EXPECT_THAT(ToText(*largest, Small(), 2), HasSubstr("largest model that fits: "));
  }
}

TEST(FindLargestModelTest, WhereNothingFitsTheRefusalIsSaid) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  const TrainConfig config = Config(&facts, {"memory.device_bytes=100000"});
  const absl::Status status = FindLargestModel(config, Small(), facts, ScaleAxis::kDepth).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("memory.device_bytes"));
}

// At a small width, a large cluster has room for models deeper than anyone would wait for.
TEST(FindLargestModelTest, DeeperModelsThanAnyoneTrainsAreNotLookedFor) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  const TrainConfig config = Config(&facts);
  const absl::Status status = FindLargestModel(config, Small(), facts, ScaleAxis::kDepth, 4).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(status.message(),
            "the cluster has room for 4 layers of this width and more: wanted a wider model, or --scale width");
}

TEST(FindFastestTest, NothingThatWasLeftOutIsMuchFaster) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  const TrainConfig config = Config(&facts, {"memory.device_bytes=900000", "batch.global_batch_sequences=4"});
  const auto fastest = FindFastest(config, Small(), facts);
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  // Micro-batches 1 and 2, four stages, three recomputation choices, four prefetch distances, three page sizes, for one
  // degree or both; both degrees with the default values.
  EXPECT_GT(fastest->candidates, 2 * 4 * 3 * 4 * 3);
  EXPECT_LE(fastest->candidates, 2 * (2 * 4 * 3 * 4 * 3 + 3));
  EXPECT_TRUE(fastest->best.chose_blocks);
  EXPECT_EQ(fastest->pruned + fastest->refused + static_cast<int64_t>(fastest->planned.size()), fastest->candidates);
  EXPECT_GT(fastest->pruned, 0);
  for (const Candidate& candidate : fastest->planned) {
    EXPECT_LE(candidate.bound_seconds, candidate.seconds * (1 + 1e-9));
    EXPECT_LE(fastest->best.seconds, candidate.seconds);
  }
  double least = std::numeric_limits<double>::infinity();
  for (const int micro : {1, 2}) {
    for (const int stage : {0, 1, 2, 3}) {
      for (const auto choice : {MemoryConfig::NONE, MemoryConfig::BLOCKS}) {
        for (const auto& [prefetch, degree] : {std::pair(8, 1), std::pair(128, 1), std::pair(8, 2)}) {
          TrainConfig one = fastest->best.config;
          one.mutable_sharding()->set_expert_degree(degree);
          one.mutable_batch()->set_micro_batch_sequences(micro);
          one.mutable_sharding()->set_zero_stage(stage);
          one.mutable_memory()->set_recomputation(choice);
          one.mutable_memory()->set_prefetch_steps(prefetch);
          RunPlan run;
          if (!MakeTrainingPlan(one, facts, &run).ok()) continue;
          least = std::min(least, Predict(run, one, Small(), 2).time.seconds);
        }
      }
    }
  }
  EXPECT_LE(fastest->best.seconds, 1.05 * least);
  EXPECT_THAT(ToText(*fastest), HasSubstr(absl::StrCat(fastest->candidates, " candidates: ")));
}

// The bound counts only what every plan has. Where the network dominates, it is close.
TEST(FindFastestTest, NoPlanIsFasterThanItsBound) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  Cluster slow = Small();
  slow.mutable_inside_node()->set_bytes_per_second(1e6);
  const CostModel model = CostModelOf(slow, 2);
  for (const int degree : {1, 2}) {
    for (const int stage : {0, 1, 2, 3}) {
      for (const int micro : {1, 2}) {
        const TrainConfig config = Config(
            &facts, {absl::StrCat("sharding.expert_degree=", degree), absl::StrCat("sharding.zero_stage=", stage),
                     absl::StrCat("batch.micro_batch_sequences=", micro), "batch.global_batch_sequences=8"});
        RunPlan run;
        ASSERT_EQ(MakeTrainingPlan(config, facts, &run), absl::OkStatus());
        const double bound = LeastStepSeconds(run.training, model, {2, 0, degree}, stage, 4 / micro);
        const double seconds = Predict(run, config, slow, 2).time.seconds;
        EXPECT_LE(bound, seconds) << degree << " " << stage << " " << micro;
        // Most of the difference is what stage 3 gathers again for the backward pass.
        EXPECT_GE(bound, 0.5 * seconds) << degree << " " << stage << " " << micro;
      }
    }
  }
}

// If ranks cannot exchange parts of a sequence in whole cache lines, experts stay whole: nothing is recommended that
// training refuses.
TEST(FindFastestTest, DegreesThatTrainingRefusesAreNotTried) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  const TrainConfig config = Config(&facts, {"data.sequence_length=36", "batch.global_batch_sequences=4"});
  const auto fastest = FindFastest(config, Small(), facts);
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  for (const Candidate& candidate : fastest->planned) EXPECT_EQ(candidate.config.sharding().expert_degree(), 1);
}

// Where no device has room for all experts of a layer, only other degrees are tried.
TEST(FindFastestTest, ExpertsAreSplitWhereAllDoNotFit) {
  RunFactsForPlan facts{.world_size = 2, .vocab_size = 512};
  TrainConfig config = Config(&facts, {"model.hunyuan_lm.num_experts=16", "batch.micro_batch_sequences=1",
                                       "batch.global_batch_sequences=2", "memory.recomputation=BLOCKS"});
  const int64_t whole = LeastDeviceBytes(config, facts).value();
  config.mutable_sharding()->set_expert_degree(2);
  const int64_t split = LeastDeviceBytes(config, facts).value();
  ASSERT_LT(split, whole);
  config.mutable_memory()->set_device_bytes(split);
  config.mutable_sharding()->set_expert_degree(1);
  const auto fastest = FindFastest(config, Small(), facts);
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  for (const Candidate& candidate : fastest->planned) EXPECT_EQ(candidate.config.sharding().expert_degree(), 2);
  EXPECT_EQ(fastest->pruned + fastest->refused + static_cast<int64_t>(fastest->planned.size()), fastest->candidates);

  config.mutable_memory()->set_device_bytes(config.memory().page_bytes());
  EXPECT_EQ(FindFastest(config, Small(), facts).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace angel_ptm
