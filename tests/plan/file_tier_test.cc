// What the host has no room for rests in the file. Every such plan is sound and within all three budgets, and the least
// host budget that a refusal names is exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "optim/adamw.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using plan_testing::ArenaBytes;
using plan_testing::FactsFor;
using plan_testing::FileCase;
using plan_testing::kRoomyTier;
using plan_testing::kSmallBatch;
using plan_testing::LeastDeviceBytes;
using plan_testing::LeastHostBytes;
using plan_testing::NameOf;
using plan_testing::OptionsOf;
using plan_testing::SmallShape;
using plan_testing::TrainingGraph;
using ::testing::HasSubstr;

class FileTier : public ::testing::TestWithParam<FileCase> {
 protected:
  FileTier()
      : graph_(TrainingGraph(SmallShape(3, GetParam().moe), kSmallBatch, false, AdamWStates(GetParam().type))),
        facts_(FactsFor(graph_)) {}

  PlanOptions Options() const { return OptionsOf(GetParam()); }

  void ExpectSound(const PlanOptions& options, Plan* plan) const {
    absl::StatusOr<Plan> made = MakePlan(graph_, facts_, options);
    ASSERT_TRUE(made.ok()) << made.status();
    *plan = *std::move(made);
    const absl::Status verified = VerifyPlan(graph_, *plan);
    EXPECT_TRUE(verified.ok()) << verified;
    EXPECT_LE(ArenaBytes(*plan, TierKind::kDevice), options.device_bytes);
    EXPECT_LE(ArenaBytes(*plan, TierKind::kHost), options.host_bytes);
    EXPECT_LE(ArenaBytes(*plan, TierKind::kFile), options.file_bytes);
  }

  const Graph graph_;
  const BackendFacts facts_;
};

TEST_P(FileTier, TakesWhatTheHostHasNoRoomFor) {
  PlanOptions options = Options();
  const int64_t unconstrained = ArenaBytes(MakePlan(graph_, facts_, options).value(), TierKind::kDevice);
  for (const int64_t device : {LeastDeviceBytes(graph_, facts_, options), unconstrained / 2}) {
    options.device_bytes = device;
    options.host_bytes = kRoomyTier;
    Plan plan;
    ExpectSound(options, &plan);
    EXPECT_EQ(ArenaBytes(plan, TierKind::kFile), 0);
    const int64_t all = ArenaBytes(plan, TierKind::kHost), least = LeastHostBytes(graph_, facts_, options);
    EXPECT_LT(least, all);
    int64_t before = std::numeric_limits<int64_t>::max();
    for (const int64_t host : {least, least + (all - least) / 8, least + (all - least) / 2, all}) {
      SCOPED_TRACE(absl::StrCat("device ", device, ", host ", host, " of ", all, ", least ", least));
      options.host_bytes = host;
      ExpectSound(options, &plan);
      EXPECT_LE(ArenaBytes(plan, TierKind::kFile), before);
      before = ArenaBytes(plan, TierKind::kFile);
      if (host < all) {
        EXPECT_GT(before, 0);
      }
    }
    options.host_bytes = least - 1;
    const absl::Status refused = MakePlan(graph_, facts_, options).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("memory.host_bytes is ")));
    EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("(", least, ")")));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, FileTier,
    ::testing::ValuesIn(FewerIfSanitized<FileCase>(
        3, {FileCase{false, 2, 3, 8 << 10, 2, DType::kBFloat16}, FileCase{true, 2, 2, 64 << 10, 8, DType::kFloat32},
            FileCase{false, 3, 0, 4 << 20, 2, DType::kBFloat16}, FileCase{false, 1, 0, 8 << 10, 8, DType::kFloat32},
            FileCase{true, 1, 3, 64 << 10, 0, DType::kBFloat16}, FileCase{true, 3, 1, 8 << 10, 8, DType::kBFloat16},
            FileCase{true, 8, 3, 8 << 10, 8, DType::kFloat32}})),
    NameOf);

TEST(FileTierTest, ItsBudgetIsKept) {
  const Graph graph = TrainingGraph(SmallShape(2, false), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options{.page_bytes = 64 << 10, .file_bytes = kRoomyTier};
  options.device_bytes = LeastDeviceBytes(graph, facts, options);
  options.host_bytes = LeastHostBytes(graph, facts, options);
  const absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  options.file_bytes = ArenaBytes(*plan, TierKind::kFile);
  EXPECT_TRUE(MakePlan(graph, facts, options).ok());
  --options.file_bytes;
  const absl::Status refused = MakePlan(graph, facts, options).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("memory.nvme.bytes is"));
}

// A host budget halfway between the least that works and what holds all state.
PlanOptions HalfOfTheHost(const Graph& graph, const BackendFacts& facts, PlanOptions options) {
  options.device_bytes = LeastDeviceBytes(graph, facts, options);
  const int64_t all = ArenaBytes(MakePlan(graph, facts, options).value(), TierKind::kHost);
  options.file_bytes = kRoomyTier;
  options.host_bytes = (LeastHostBytes(graph, facts, options) + all) / 2;
  return options;
}

int64_t LargestHome(const Plan& plan) {
  int64_t bytes = 0;
  for (const Home& home : plan.layout.homes) bytes = std::max(bytes, home.range.bytes);
  return bytes;
}

// Homes use the room on the host that pages in flight leave.
TEST(FileTierTest, TheHostIsFull) {
  const Graph graph = TrainingGraph(SmallShape(6, false), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  for (const int64_t page_bytes : {8 << 10, 64 << 10}) {
    const PlanOptions options = HalfOfTheHost(graph, facts, {.page_bytes = page_bytes});
    const Plan plan = MakePlan(graph, facts, options).value();
    EXPECT_GT(ArenaBytes(plan, TierKind::kFile), 0);
    const int64_t unused = options.host_bytes - ArenaBytes(plan, TierKind::kHost);
    EXPECT_LT(unused, LargestHome(plan) + options.host_bytes / 32) << "of " << options.host_bytes;
  }
}

// Where the file has no room for what starting early needs, less starts early. A refusal names a file size that works.
TEST(FileTierTest, MoreRestsOnTheHostWhereTheFileIsFull) {
  const Graph graph = TrainingGraph(SmallShape(6, false), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options = HalfOfTheHost(graph, facts, {.page_bytes = 8 << 10, .prefetch_steps = 128});
  const int64_t with_early = ArenaBytes(MakePlan(graph, facts, options).value(), TierKind::kFile);
  options.file_bytes = 4096;
  const std::string refused(MakePlan(graph, facts, options).status().message());
  const std::vector<std::string> parts = absl::StrSplit(refused, absl::ByAnyChar("()"));
  int64_t least = 0;
  ASSERT_TRUE(parts.size() > 1 && absl::SimpleAtoi(parts[1], &least)) << refused;
  EXPECT_LT(least, with_early);
  for (const int64_t file_bytes : {least, (least + with_early) / 2}) {
    options.file_bytes = file_bytes;
    const absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(VerifyPlan(graph, *plan), absl::OkStatus());
    EXPECT_LE(ArenaBytes(*plan, TierKind::kFile), file_bytes);
    EXPECT_LE(ArenaBytes(*plan, TierKind::kHost), options.host_bytes);
  }
  options.file_bytes = least - 1;
  EXPECT_EQ(MakePlan(graph, facts, options).status().code(), absl::StatusCode::kResourceExhausted);
}

// An evaluation of the same run leaves all homes where they are.
TEST(FileTierTest, EvaluationReadsParametersFromTheFile) {
  const HunyuanLmShape shape = SmallShape(2, true);
  const Graph training = TrainingGraph(shape, kSmallBatch, false);
  const BackendFacts facts = FactsFor(training);
  PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 8 << 10, .file_bytes = kRoomyTier};
  options.device_bytes = LeastDeviceBytes(training, facts, options);
  options.host_bytes = LeastHostBytes(training, facts, options);
  const absl::StatusOr<Plan> plan = MakePlan(training, facts, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Graph evaluation = BuildHunyuanLmEvaluation(shape, kSmallBatch, training.table);
  options.host_bytes += options.host_bytes / 8;  // an evaluation may need more than training's least
  const absl::StatusOr<Plan> other = MakePlan(evaluation, FactsFor(evaluation), options, &plan->layout);
  ASSERT_TRUE(other.ok()) << other.status();
  const absl::Status verified = VerifyPlan(evaluation, *other);
  EXPECT_TRUE(verified.ok()) << verified;
}

// VerifyPlan names moves from and to the file that are dropped, on another lane or between other places.
TEST(FileTierTest, BrokenMovesAreFound) {
  const Graph graph = TrainingGraph(SmallShape(2, false), kSmallBatch, false);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 8 << 10, .file_bytes = kRoomyTier};
  options.device_bytes = LeastDeviceBytes(graph, facts, options);
  options.host_bytes = LeastHostBytes(graph, facts, options);
  const Plan plan = MakePlan(graph, facts, options).value();
  ASSERT_EQ(VerifyPlan(graph, plan), absl::OkStatus());
  // Lifetimes and waits are fitted to the broken steps, so that only the fault itself is wrong.
  const auto found = [&](Lane lane, const std::function<void(std::vector<Step>&, size_t)>& fault) {
    Plan broken = plan;
    Segment& update = broken.segments[kUpdateSegment];
    size_t at = 0;
    while (update.steps[at].lane != lane) ++at;
    fault(update.steps, at);
    UpdateLifetimes(update);
    OrderSteps(graph, update);
    return std::string(VerifyPlan(graph, broken).message());
  };
  const auto drop = [](std::vector<Step>& steps, size_t at) { steps.erase(steps.begin() + static_cast<int64_t>(at)); };
  const auto take_another_lane = [](std::vector<Step>& steps, size_t at) { steps[at].lane = Lane::kCopyOut; };
  const auto move_half_a_block = [](std::vector<Step>& steps, size_t at) {
    steps[at].src.bytes = steps[at].dst.bytes = 2048;
  };
  EXPECT_THAT(found(Lane::kFileIn, drop), HasSubstr("nothing known"));
  EXPECT_THAT(found(Lane::kFileOut, drop), HasSubstr("is not up to date: stale copy"));
  EXPECT_THAT(found(Lane::kFileOut, take_another_lane), HasSubstr("on lane copy-out, wanted file-out"));
  EXPECT_THAT(found(Lane::kFileIn, move_half_a_block), HasSubstr("are not whole blocks of 4096"));
}

}  // namespace
}  // namespace angel_ptm
