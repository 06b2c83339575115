// Plans of a lock-free update: what memory they take, and that VerifyPlan names what is wrong with broken ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

const Graph& LockFreeGraph() {
  static const Graph* const graph = [] {
    std::vector<StateSpec> states = AdamWStates();
    for (StateSpec& state : LockFreeStates(DType::kFloat32)) states.push_back(std::move(state));
    return new Graph(plan_testing::TrainingGraph(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, false,
                                                 std::move(states)));
  }();
  return *graph;
}

// Two ranks. Most parameters and gradients rest on the host; with `file`, as little as possible does.
PlanOptions LockFreeOptions(bool file) {
  const BackendFacts facts = plan_testing::FactsFor(LockFreeGraph());
  PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 64 << 10, .prefetch_steps = 2};
  options.device_bytes = plan_testing::LeastDeviceBytes(LockFreeGraph(), facts, options);
  if (!file) return options;
  options.file_bytes = int64_t{1} << 40;
  options.device_bytes = plan_testing::LeastDeviceBytes(LockFreeGraph(), facts, options);
  options.host_bytes = plan_testing::LeastHostBytes(LockFreeGraph(), facts, options);
  return options;
}
absl::StatusOr<Plan> LockFreePlan(const PlanOptions& options) {
  return MakePlan(LockFreeGraph(), plan_testing::FactsFor(LockFreeGraph()), options);
}

TEST(LockFreePlanTest, AccountsForMailboxesAndSecondParameters) {
  for (const bool file : {false, true}) {
    PlanOptions options = LockFreeOptions(file);
    const auto plan = LockFreePlan(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const absl::Status proof = VerifyPlan(LockFreeGraph(), *plan);
    EXPECT_TRUE(proof.ok()) << proof;
    int64_t elements = 0;
    for (const UnitSlices& slices : plan->layout.slices) elements += slices.slice_elements;
    const int64_t mailboxes = plan->peaks[1].by_class[static_cast<int>(MemoryClass::kMailboxes)];
    EXPECT_EQ(mailboxes, elements * (4 + 4 + 4));
    EXPECT_EQ(plan->layout.home_bytes[2] > 0, file);
    EXPECT_THAT(PlanSummary(LockFreeGraph(), *plan), HasSubstr("lock-free update: beside the programs sweeps of "));
    EXPECT_THAT(MemoryTable(*plan), HasSubstr("\nmailboxes "));
    PlanOptions in_turns = options;
    in_turns.sweep_rounds = 3;
    const auto less = LockFreePlan(in_turns);
    ASSERT_TRUE(less.ok()) << less.status();
    const absl::Status proof_of_less = VerifyPlan(LockFreeGraph(), *less);
    EXPECT_TRUE(proof_of_less.ok()) << proof_of_less;
    const int64_t fewer = less->peaks[1].by_class[static_cast<int>(MemoryClass::kMailboxes)];
    EXPECT_LT(fewer, mailboxes);
    EXPECT_GT(fewer, elements * 4 + elements * (4 + 4) / 3);
    if (!file) continue;
    EXPECT_LT(plan_testing::LeastHostBytes(LockFreeGraph(), plan_testing::FactsFor(LockFreeGraph()), in_turns),
              options.host_bytes);
    // The least host budget is exact, sweeps included.
    EXPECT_LE(plan->arena_bytes[1], options.host_bytes);
    options.host_bytes -= 1;
    EXPECT_EQ(LockFreePlan(options).status().code(), absl::StatusCode::kResourceExhausted);
    options.host_bytes *= 2;
    EXPECT_TRUE(LockFreePlan(options).ok());
  }
}

TEST(LockFreePlanTest, WhatHasRoomOnTheDeviceHidesNothing) {
  EXPECT_THAT(std::string(LockFreePlan({.page_bytes = 64 << 10}).status().message()),
              HasSubstr("all state has room on the device, where there is nothing to hide"));
}

struct LockFreeSabotage {
  std::string name;
  std::function<void(Plan&)> mutate;
  std::string message;
};

Step& FindStep(Segment& segment, StepKind kind) {
  const auto it =
      std::find_if(segment.steps.begin(), segment.steps.end(), [&](const Step& s) { return s.kind == kind; });
  EXPECT_NE(it, segment.steps.end()) << "nothing to sabotage";
  return *it;
}
int32_t HomeRegion(const Segment& segment, StateId state) {
  const auto it = std::find_if(segment.regions.begin(), segment.regions.end(),
                               [&](const Region& r) { return r.permanent && r.state == state; });
  return static_cast<int32_t>(it - segment.regions.begin());
}
void RefitSteps(Segment& segment) {
  UpdateLifetimes(segment);
  OrderSteps(LockFreeGraph(), segment);
}

class LockFreeSabotageTest : public ::testing::TestWithParam<LockFreeSabotage> {};

TEST_P(LockFreeSabotageTest, IsNamed) {
  auto plan = LockFreePlan(LockFreeOptions(/*file=*/true));
  ASSERT_TRUE(plan.ok()) << plan.status();
  GetParam().mutate(*plan);
  const absl::Status after = VerifyPlan(LockFreeGraph(), *plan);
  EXPECT_EQ(after.code(), absl::StatusCode::kInternal) << after;
  EXPECT_THAT(std::string(after.message()), HasSubstr(GetParam().message));
}

std::vector<LockFreeSabotage> LockFreeSabotages() {
  return {
      {"SweepMissing", [](Plan& p) { p.sweeps.pop_back(); }, " sweeps, wanted "},
      {"SweepOfAnotherUnit", [](Plan& p) { std::swap(p.sweeps[0], p.sweeps[2]); }, "sweep 0 is of another unit"},
      {"TheMailboxThatIsFilled",
       [](Plan& p) {
         const StateId second = FindLockFreeRows(p.layout.states).second_mailbox;
         FindStep(p.sweeps[0], StepKind::kUpdate).operands[3].region = HomeRegion(p.sweeps[0], second);
         RefitSteps(p.sweeps[0]);
       },
       "mailbox in region"},
      {"SharedHomeInAnotherState",
       [](Plan& p) {
         const LockFreeRows rows = FindLockFreeRows(p.layout.states);
         p.layout.homes[p.layout.HomeIndex(0, rows.new_parameters)].range.offset =
             p.layout.home(0, rows.second_mailbox).range.offset;
       },
       "overlap"},
      {"NewestParametersNotCopied",
       [](Plan& p) {
         FindStep(p.sweeps[0], StepKind::kUpdate).src = {};
         RefitSteps(p.sweeps[0]);
       },
       "newest parameters is missing"},
      {"PageNotUpdated",
       [](Plan& p) {
         std::vector<Step>& steps = p.sweeps[0].steps;
         steps.erase(steps.begin() + (&FindStep(p.sweeps[0], StepKind::kUpdate) - steps.data()));
         RefitSteps(p.sweeps[0]);
       },
       "sweep of "},
      {"PageNotReturned",
       [](Plan& p) {
         std::erase_if(p.sweeps[0].steps, [](const Step& s) { return s.lane == Lane::kFileOut; });
         RefitSteps(p.sweeps[0]);
       },
       "at its end the home of "},
      {"MemoryOfPrograms",
       [](Plan& p) {
         for (Region& region : p.sweeps[0].regions) {
           if (!region.permanent) region.range.offset = p.layout.home_bytes[1];
         }
       },
       "lies where programs have theirs"},
      {"GradientsNotDelivered",
       [](Plan& p) {
         std::erase_if(p.segments[kUpdateSegment].steps, [](const Step& s) { return s.kind == StepKind::kDeliver; });
         RefitSteps(p.segments[kUpdateSegment]);
       },
       " are not delivered"},
      {"DeliveredTwice",
       [](Plan& p) {
         std::vector<Step>& steps = p.segments[kUpdateSegment].steps;
         steps.push_back(FindStep(p.segments[kUpdateSegment], StepKind::kDeliver));
         RefitSteps(p.segments[kUpdateSegment]);
       },
       " are delivered twice"},
      {"DeliveredBeforeTheNorm",
       [](Plan& p) {
         for (Step& step : p.segments[kUpdateSegment].steps) step.waits[static_cast<int>(Lane::kComm)] = 0;
       },
       "does not wait for the norm"},
      {"UpdatedByTheProgram",
       [](Plan& p) { p.segments[kUpdateSegment].steps.push_back(FindStep(p.sweeps[0], StepKind::kUpdate)); },
       "which belongs to a sweep"},
  };
}

INSTANTIATE_TEST_SUITE_P(All, LockFreeSabotageTest, ::testing::ValuesIn(LockFreeSabotages()),
                         [](const auto& sabotage) { return sabotage.param.name; });

}  // namespace
}  // namespace angel_ptm
