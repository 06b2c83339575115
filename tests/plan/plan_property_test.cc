// Every plan of a grid of graphs, ZeRO stages, worlds, pages, prefetch depths and budgets is sound and within its
// budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <tuple>

#include "optim/adamw.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using plan_testing::FactsFor;
using plan_testing::kSmallBatch;
using plan_testing::LeastDeviceBytes;
using plan_testing::MovesOf;
using plan_testing::SmallShape;
using plan_testing::TrainingGraph;
using ::testing::HasSubstr;

constexpr int kWorlds[] = {1, 2, 3, 4, 8};
constexpr int64_t kPageBytes[] = {4 << 10, 64 << 10, 4 << 20};
constexpr int kPrefetchSteps[] = {0, 2, 8};

// moe, layers, recompute, zero stage
using Param = std::tuple<bool, int, bool, int>;

class PlanGrid : public ::testing::TestWithParam<Param> {
 protected:
  PlanGrid()
      : graph_(TrainingGraph(SmallShape(std::get<1>(GetParam()), std::get<0>(GetParam())), kSmallBatch,
                             std::get<2>(GetParam()))),
        facts_(FactsFor(graph_)) {}

  PlanOptions Options(int world, int combination) const {
    return {.world_size = world,
            .zero_stage = std::get<3>(GetParam()),
            .page_bytes = kPageBytes[combination % 3],
            .prefetch_steps = kPrefetchSteps[combination / 3 % 3]};
  }

  void ExpectSound(const Plan& plan, int64_t device_bytes) const {
    const absl::Status verified = VerifyPlan(graph_, plan);
    EXPECT_TRUE(verified.ok()) << verified;
    if (device_bytes > 0) {
      EXPECT_LE(plan.arena_bytes[0], device_bytes);
    }
    for (int t = 0; t < kTierCount; ++t) {
      const TierPeak& peak = plan.peaks[t];
      EXPECT_EQ(peak.live_bytes, std::accumulate(peak.by_class.begin(), peak.by_class.end(), int64_t{0}));
      EXPECT_LE(peak.live_bytes, plan.arena_bytes[t]);
    }
  }

  const Graph graph_;
  const BackendFacts facts_;
};

// Bytes that a rank stores of one class over all units: whole padded vectors, or slices if `sharded`.
int64_t StoredBytes(const Graph& graph, int world, bool sharded) {
  int64_t bytes = 0;
  for (const Unit& unit : graph.units()) {
    const int64_t per_rank = (unit.elements + world - 1) / world;
    const int64_t slice = (per_rank + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment * 4;
    bytes += sharded ? slice : slice * world;
  }
  return bytes;
}

void ExpectStageFormula(const Graph& graph, const Plan& plan) {
  std::vector<int64_t> stored(graph.states().size());
  for (const Home& home : plan.layout.homes) stored[home.state] += home.range.bytes;
  const int stage = plan.layout.zero_stage, world = plan.layout.world_size;
  EXPECT_EQ(stored[kParameterState], StoredBytes(graph, world, stage >= 3));
  EXPECT_EQ(stored[kGradientState], StoredBytes(graph, world, stage >= 1));
  EXPECT_EQ(stored[kMoment1State], StoredBytes(graph, world, stage >= 1));
  EXPECT_EQ(stored[kMoment2State], StoredBytes(graph, world, stage >= 1));
}

// A reduce writes its source, including the padding of a unit's gradients. Nothing else may have written the padding
// since the memory had another use, so the reduce must wait for the reader in that use. Units this small are half
// padding.
TEST(PlanTest, AReduceWaitsForWhoReadItsPadding) {
  HunyuanLmShape shape = SmallShape(4, true);
  shape.vocab_size = 96;
  shape.hidden_size = 32;
  shape.intermediate_size = 48;
  shape.head_dim = 8;
  const Graph graph =
      TrainingGraph(shape, {.rows = 2, .sequence = 32, .lm_head_chunk_tokens = 16, .expert_block_rows = 4}, false);
  const BackendFacts facts = FactsFor(graph);
  for (int world : kWorlds) {
    for (int stage : FewerIfSanitized(2, {1, 3, 0, 2})) {
      for (int percent : FewerIfSanitized(2, {35, 60, 45})) {
        PlanOptions options{.world_size = world, .zero_stage = stage, .page_bytes = 4 << 20, .prefetch_steps = 3};
        absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
        ASSERT_TRUE(plan.ok()) << plan.status();
        options.device_bytes = plan->arena_bytes[0] * percent / 100;
        plan = MakePlan(graph, facts, options);
        if (absl::IsResourceExhausted(plan.status())) continue;
        ASSERT_TRUE(plan.ok()) << plan.status();
        const absl::Status verified = VerifyPlan(graph, *plan);
        EXPECT_TRUE(verified.ok()) << "world " << world << ", stage " << stage << ", " << percent << " %: " << verified;
      }
    }
  }
}

// Whatever fits at the default prefetch distance fits at any larger one: steps that do not fit early run later.
TEST(PlanTest, WhatFitsAtTheDefaultPrefetchFitsAtTheLargest) {
  for (bool moe : {false, true}) {
    const Graph graph = TrainingGraph(SmallShape(2, moe), kSmallBatch, false);
    const BackendFacts facts = FactsFor(graph);
    for (int stage : {0, 3}) {
      PlanOptions options{.world_size = 2, .zero_stage = stage, .page_bytes = 64 << 10, .prefetch_steps = 8};
      options.device_bytes = LeastDeviceBytes(graph, facts, options);
      ASSERT_TRUE(MakePlan(graph, facts, options).ok());
      for (options.prefetch_steps = 16; options.prefetch_steps <= 1 << 16; options.prefetch_steps *= 2) {
        SCOPED_TRACE(absl::StrCat(moe ? "moe" : "dense", ", stage ", stage, ", prefetch ", options.prefetch_steps));
        const absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
        ASSERT_TRUE(plan.ok()) << plan.status();
        EXPECT_LE(plan->arena_bytes[0], options.device_bytes);
        const absl::Status verified = VerifyPlan(graph, *plan);
        EXPECT_TRUE(verified.ok()) << verified;
      }
    }
  }
}

TEST_P(PlanGrid, BudgetsAreKept) {
  int combination = std::get<1>(GetParam()) + std::get<3>(GetParam());
  for (int world : kWorlds) {
    // For each graph and stage, every other world: each pair of world and stage occurs with some kind of graph.
    if ((combination + std::get<0>(GetParam()) + std::get<2>(GetParam())) % 2 == 0) {
      ++combination;
      continue;
    }
    PlanOptions options = Options(world, ++combination);
    SCOPED_TRACE(
        absl::StrCat("world ", world, ", pages of ", options.page_bytes, ", prefetch ", options.prefetch_steps));
    const absl::StatusOr<Plan> unconstrained = MakePlan(graph_, facts_, options);
    ASSERT_TRUE(unconstrained.ok()) << unconstrained.status();
    ExpectSound(*unconstrained, 0);
    ExpectStageFormula(graph_, *unconstrained);
    EXPECT_EQ(MovesOf(*unconstrained), 0);
    EXPECT_LE(PackingLoss(*unconstrained, TierKind::kDevice), 0.055);
    const int64_t full = unconstrained->arena_bytes[0];
    const int64_t least = LeastDeviceBytes(graph_, facts_, options);
    EXPECT_LT(least, full);
    for (int64_t bytes :
         FewerIfSanitized(3, {full * 60 / 100, least, full * 35 / 100, full * 45 / 100, full * 80 / 100, full})) {
      options.device_bytes = bytes;
      SCOPED_TRACE(absl::StrCat("device_bytes ", bytes, ", unconstrained ", full, ", least ", least));
      const absl::StatusOr<Plan> plan = MakePlan(graph_, facts_, options);
      if (bytes >= least) {
        ASSERT_TRUE(plan.ok()) << plan.status();
        ExpectSound(*plan, bytes);
        ExpectStageFormula(graph_, *plan);
        if (bytes <= full * 60 / 100) {
          EXPECT_GT(MovesOf(*plan), 0);
        }
      } else if (bytes < least - least / 50) {  // the least is known to within a percent
        EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
        EXPECT_THAT(std::string(plan.status().message()), HasSubstr(absl::StrCat("(", least, ")")));
      }
    }
  }
}

TEST_P(PlanGrid, PlanningIsDeterministic) {
  PlanOptions options = Options(4, 1);
  const absl::StatusOr<Plan> unconstrained = MakePlan(graph_, facts_, options);
  ASSERT_TRUE(unconstrained.ok());
  options.device_bytes = unconstrained->arena_bytes[0] * 7 / 10;
  const absl::StatusOr<Plan> once = MakePlan(graph_, facts_, options), again = MakePlan(graph_, facts_, options);
  ASSERT_TRUE(once.ok() && again.ok());
  EXPECT_EQ(Hash(*once), Hash(*again));
  EXPECT_NE(Hash(*once), Hash(*unconstrained));
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  const auto& [moe, layers, recompute, stage] = info.param;
  return absl::StrCat(moe ? "moe" : "dense", layers, recompute ? "recomputed" : "", "stage", stage);
}

INSTANTIATE_TEST_SUITE_P(Graphs, PlanGrid,
                         ::testing::Combine(::testing::Bool(), ::testing::Values(2, 4), ::testing::Bool(),
                                            ::testing::Values(0, 1, 2, 3)),
                         ParamName);

// Plans for evaluating or generating with the same run: state stays where the training plan has it.
TEST(SharedLayout, EvaluationAndDecodingKeepTheHomes) {
  const HunyuanLmShape shape = SmallShape(2, true);
  const Graph training = TrainingGraph(shape, kSmallBatch, false);
  for (int stage = 0; stage <= 3; ++stage) {
    PlanOptions options{.world_size = 2, .zero_stage = stage, .page_bytes = 64 << 10};
    absl::StatusOr<Plan> plan = MakePlan(training, FactsFor(training), options);
    ASSERT_TRUE(plan.ok());
    options.device_bytes = plan->arena_bytes[0] / 2;
    plan = MakePlan(training, FactsFor(training), options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (const Graph& graph : {BuildHunyuanLmEvaluation(shape, kSmallBatch, training.table),
                               BuildHunyuanLmDecoding(shape, 2, 32, 8, training.table)}) {
      const absl::StatusOr<Plan> other = MakePlan(graph, FactsFor(graph), options, &plan->layout);
      ASSERT_TRUE(other.ok()) << other.status();
      const absl::Status verified = VerifyPlan(graph, *other);
      EXPECT_TRUE(verified.ok()) << verified;
      EXPECT_EQ(other->segments.size(), 1u);
      for (size_t i = 0; i < plan->layout.homes.size(); ++i) {
        EXPECT_EQ(other->layout.homes[i].range, plan->layout.homes[i].range);
      }
    }
  }
}

TEST(Generation, KeepsParametersOnly) {
  const Graph graph = BuildHunyuanLmDecoding(SmallShape(2, false), 1, 32, 8);
  const PlanOptions options{.page_bytes = 64 << 10};
  const absl::StatusOr<Plan> plan = MakePlan(graph, FactsFor(graph), options);
  ASSERT_TRUE(plan.ok());
  const absl::Status verified = VerifyPlan(graph, *plan);
  EXPECT_TRUE(verified.ok()) << verified;
  EXPECT_EQ(plan->layout.home_bytes[0], StoredBytes(graph, 1, false));
}

// A small host budget is met by keeping as much state as possible on the device.
TEST(HostBudget, CountsAfterTheDeviceIsFull) {
  const Graph graph = TrainingGraph(SmallShape(4, false), kSmallBatch, false);
  PlanOptions options{.page_bytes = 64 << 10};
  const absl::StatusOr<Plan> unconstrained = MakePlan(graph, FactsFor(graph), options);
  ASSERT_TRUE(unconstrained.ok());
  options.device_bytes = unconstrained->arena_bytes[0] * 80 / 100;
  options.host_bytes = unconstrained->arena_bytes[0] * 30 / 100;
  const absl::StatusOr<Plan> plan = MakePlan(graph, FactsFor(graph), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->arena_bytes[0], options.device_bytes);
  EXPECT_LE(plan->arena_bytes[1], options.host_bytes);
  EXPECT_GT(plan->arena_bytes[1], 0);
}

TEST(HostBudget, RefusalNamesTheTier) {
  const Graph graph = TrainingGraph(SmallShape(2, false), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options{.page_bytes = 64 << 10};
  options.device_bytes = LeastDeviceBytes(graph, facts, options);
  const absl::StatusOr<Plan> roomy = MakePlan(graph, facts, options);
  ASSERT_TRUE(roomy.ok());
  options.host_bytes = roomy->arena_bytes[1];
  EXPECT_TRUE(MakePlan(graph, facts, options).ok());
  options.host_bytes = roomy->arena_bytes[1] - 1;
  const absl::Status refused = MakePlan(graph, facts, options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("memory.host_bytes is"));
}

}  // namespace
}  // namespace angel_ptm
