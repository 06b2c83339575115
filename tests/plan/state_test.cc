// States are rows of a table: other types and additional states are planned and verified like the first four, with the
// bytes that follow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "angel_ptm/plan/plan_text.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using plan_testing::FactsFor;
using plan_testing::kSmallBatch;
using plan_testing::SmallShape;
using plan_testing::TrainingGraph;
using ::testing::HasSubstr;

int64_t StoredBytes(const Plan& plan, StateId state) {
  int64_t bytes = 0;
  for (const Home& home : plan.layout.homes) bytes += home.state == state ? home.range.bytes : 0;
  return bytes;
}

void ExpectVerified(const Graph& graph, const Plan& plan) {
  const absl::Status verified = VerifyPlan(graph, plan);
  EXPECT_TRUE(verified.ok()) << verified;
}

TEST(States, OfOtherTypesTakeTheirBytes) {
  std::vector<StateSpec> states = AdamWStates();
  states.push_back(EmaState());
  states[kMoment1State].dtype = DType::kUInt8;
  states.back().dtype = DType::kBFloat16;
  Graph graph = TrainingGraph(SmallShape(3, true), kSmallBatch, false, states);
  AppendEma(graph);
  const StateId ema = FindState(graph.states(), kEmaState);
  const BackendFacts facts = FactsFor(graph);
  for (int stage = 0; stage <= 3; ++stage) {
    PlanOptions options{.world_size = 3, .zero_stage = stage, .page_bytes = 16 << 10};
    const absl::StatusOr<Plan> all = MakePlan(graph, facts, options);
    ASSERT_TRUE(all.ok()) << all.status();
    ExpectVerified(graph, *all);
    EXPECT_EQ(4 * StoredBytes(*all, kMoment1State), StoredBytes(*all, kMoment2State));
    EXPECT_EQ(2 * StoredBytes(*all, ema), StoredBytes(*all, kMoment2State));
    // Smaller and smaller budgets: first pages move to the update and back, at last everything rests on the host.
    int64_t paged = 0;
    for (int percent : {90, 75, 60, 45, 30}) {
      options.device_bytes = all->arena_bytes[0] * percent / 100;
      const absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      ExpectVerified(graph, *plan);
      for (const Step& step : plan->segments[kUpdateSegment].steps) paged += step.kind == StepKind::kMove ? 1 : 0;
    }
    EXPECT_GT(paged, 0) << "stage " << stage;
  }
}

TEST(States, ThatRestOnTheHostAreUpdatedThere) {
  const Graph graph = TrainingGraph(SmallShape(3, true), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options{.page_bytes = 16 << 10};
  options.device_bytes = plan_testing::LeastDeviceBytes(graph, facts, options);
  const absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout.home_bytes[0], 0);
  for (const Step& step : plan->segments[kUpdateSegment].steps) {
    EXPECT_NE(step.kind, StepKind::kMove);
    EXPECT_TRUE(step.kind != StepKind::kUpdate || step.lane == Lane::kHostCompute);
  }
  for (const Step& step : plan->segments[kMicroStepSegment].steps) {
    const bool fetches = step.kind == StepKind::kMove && step.lane == Lane::kCopyIn && step.state == kGradientState &&
                         step.unit != kNone;
    EXPECT_TRUE(!fetches || step.when == When::kAccumulating);
  }
}

TEST(States, OfFrozenUnitsAreTheirParameters) {
  HunyuanLmShape shape = SmallShape(3, false);
  shape.freeze = {"layers.1.*", "embedding"};
  const Graph graph = TrainingGraph(shape, kSmallBatch, false);
  const absl::StatusOr<Plan> plan = MakePlan(graph, FactsFor(graph), {.world_size = 2, .zero_stage = 3});
  ASSERT_TRUE(plan.ok()) << plan.status();
  ExpectVerified(graph, *plan);
  for (const Home& home : plan->layout.homes) {
    EXPECT_EQ(home.elements > 0, home.state == kParameterState || graph.units()[home.unit].trainable);
  }
  for (const Step& step : plan->segments[kMicroStepSegment].steps) {
    EXPECT_TRUE(step.kind != StepKind::kReduceScatter || graph.units()[step.unit].trainable);
  }
  const auto trained =
      std::count_if(graph.units().begin(), graph.units().end(), [](const auto& u) { return u.trainable; });
  EXPECT_THAT(PlanSummary(graph, *plan), HasSubstr(absl::StrCat("reduce-scatter gradients of ", trained, " units: ")));
  // VerifyPlan refuses a frozen unit with moments.
  Plan tampered = *plan;
  Home& home = tampered.layout.homes[tampered.layout.HomeIndex(0, kMoment1State)];
  home.elements = kSliceAlignment;
  EXPECT_FALSE(VerifyPlan(graph, tampered).ok());
}

}  // namespace
}  // namespace angel_ptm
