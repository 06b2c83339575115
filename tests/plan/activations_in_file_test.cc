// Activations that wait for the backward pass rest in the file where the host has no room for them. Such plans are
// sound and within all three budgets, and the least budgets that refusals name are exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "angel_ptm/plan/simulate.h"
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

bool IsActivation(const Region& region) { return region.memory_class == MemoryClass::kActivations; }

// Bytes of activations that a micro-step writes to the file.
int64_t ActivationsWritten(const Plan& plan) {
  const Segment& segment = plan.segments[kMicroStepSegment];
  int64_t bytes = 0;
  for (const Step& step : segment.steps) {
    if (step.lane == Lane::kFileOut && IsActivation(segment.regions[step.dst.region])) bytes += step.dst.bytes;
  }
  return bytes;
}

class ActivationsInFile : public ::testing::TestWithParam<FileCase> {
 protected:
  ActivationsInFile()
      : graph_(TrainingGraph(SmallShape(3, GetParam().moe), kSmallBatch, false, AdamWStates(GetParam().type))),
        facts_(FactsFor(graph_)) {
    options_ = OptionsOf(GetParam());
    options_.device_bytes = LeastDeviceBytes(graph_, facts_, options_);
  }

  const Graph graph_;
  const BackendFacts facts_;
  PlanOptions options_;
};

TEST_P(ActivationsInFile, TakeWhatTheHostHasNoRoomFor) {
  const int64_t least = LeastHostBytes(graph_, facts_, options_);
  int64_t in_file = 0, whole = 0;
  for (const int64_t more : {int64_t{0}, int64_t{4096}, least / 8, least / 2, 4 * least, 32 * least}) {
    options_.host_bytes = least + more;
    SCOPED_TRACE(absl::StrCat("device ", options_.device_bytes, ", host ", least, " and ", more));
    const absl::StatusOr<Plan> plan = MakePlan(graph_, facts_, options_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(VerifyPlan(graph_, *plan), absl::OkStatus());
    EXPECT_LE(ArenaBytes(*plan, TierKind::kDevice), options_.device_bytes);
    EXPECT_LE(ArenaBytes(*plan, TierKind::kHost), options_.host_bytes);
    if (more == 0) in_file = ActivationsWritten(*plan);
    EXPECT_LE(ActivationsWritten(*plan), in_file);
    if (ActivationsWritten(*plan) > 0) {
      // Activations go to the file only once all state is there.
      EXPECT_EQ(plan->layout.home_bytes[static_cast<int>(TierKind::kHost)], 0);
      const TierPeak& peak = plan->peaks[static_cast<int>(TierKind::kFile)];
      EXPECT_GT(peak.by_class[static_cast<int>(MemoryClass::kActivations)], 0);
      EXPECT_GT(ArenaBytes(*plan, TierKind::kFile), plan->layout.home_bytes[static_cast<int>(TierKind::kFile)]);
    }
    whole = ActivationsWritten(*plan);
  }
  EXPECT_GT(in_file, 0);
  EXPECT_EQ(whole, 0);  // the last budget has room for everything
  for (const int64_t less : {int64_t{1}, int64_t{4096}, least / 3}) {
    options_.host_bytes = least - less;
    const absl::Status refused = MakePlan(graph_, facts_, options_).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("memory.host_bytes is "));
    EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("the least that works is ")));
    EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("(", least, ")")));
  }
}

// The least device budget, and plans above it, are the same as with room on the host.
TEST_P(ActivationsInFile, LeaveTheDevicesLeastAsItIs) {
  const int64_t least = options_.device_bytes;
  for (const int64_t more : {int64_t{0}, int64_t{4096}, least / 4}) {
    options_.device_bytes = least + more;
    options_.host_bytes = 0;
    options_.host_bytes = LeastHostBytes(graph_, facts_, options_);
    const absl::StatusOr<Plan> plan = MakePlan(graph_, facts_, options_);
    ASSERT_TRUE(plan.ok()) << "with " << more << " more: " << plan.status();
    EXPECT_EQ(VerifyPlan(graph_, *plan), absl::OkStatus());
    EXPECT_LE(ArenaBytes(*plan, TierKind::kDevice), options_.device_bytes);
  }
}

TEST_P(ActivationsInFile, TheFilesLeastIsExact) {
  const int64_t least_host = LeastHostBytes(graph_, facts_, options_);
  for (const int64_t host_bytes : {least_host, least_host + least_host / 4}) {
    options_.host_bytes = host_bytes;
    options_.file_bytes = 4096;
    const std::string refused(MakePlan(graph_, facts_, options_).status().message());
    const std::vector<std::string> parts = absl::StrSplit(refused, absl::ByAnyChar("()"));
    int64_t least = 0;
    ASSERT_TRUE(parts.size() > 1 && absl::SimpleAtoi(parts[1], &least)) << refused;
    EXPECT_THAT(refused, HasSubstr(" rest in the file tier, memory.nvme.bytes is "));
    options_.file_bytes = least;
    const absl::StatusOr<Plan> plan = MakePlan(graph_, facts_, options_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(VerifyPlan(graph_, *plan), absl::OkStatus());
    EXPECT_LE(ArenaBytes(*plan, TierKind::kFile), least);
    options_.file_bytes = least - 1;
    EXPECT_TRUE(absl::IsResourceExhausted(MakePlan(graph_, facts_, options_).status()));
    options_.file_bytes = kRoomyTier;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, ActivationsInFile,
    ::testing::ValuesIn(FewerIfSanitized<FileCase>(
        2, {FileCase{false, 1, 0, 8 << 10, 8, DType::kFloat32}, FileCase{true, 2, 3, 64 << 10, 2, DType::kBFloat16},
            FileCase{true, 1, 3, 8 << 10, 0, DType::kBFloat16}, FileCase{false, 2, 1, 4 << 20, 8, DType::kFloat32},
            FileCase{true, 3, 2, 64 << 10, 64, DType::kFloat32}, FileCase{false, 8, 3, 8 << 10, 4, DType::kBFloat16}})),
    NameOf);

// A graph whose activations go to the file at the least host budget, and its plan at that budget.
struct Planned {
  explicit Planned(int64_t more_host_bytes = 0, int prefetch_steps = 8)
      : graph(TrainingGraph(SmallShape(4, true), kSmallBatch, false)), facts(FactsFor(graph)) {
    options = {.world_size = 2, .zero_stage = 3, .page_bytes = 8 << 10, .file_bytes = kRoomyTier};
    options.prefetch_steps = prefetch_steps;
    options.device_bytes = LeastDeviceBytes(graph, facts, options) / 8 * 9;
    options.host_bytes = LeastHostBytes(graph, facts, options) + more_host_bytes;
    plan = MakePlan(graph, facts, options).value();
  }
  const Segment& micro_step() const { return plan.segments[kMicroStepSegment]; }

  Graph graph;
  BackendFacts facts;
  PlanOptions options;
  Plan plan;
};

// The file is written in whole blocks, and some activations do not fill one.
TEST(ActivationsInFileTest, FillWholeBlocks) {
  const Planned planned;
  int64_t odd = 0;
  for (const Region& region : planned.micro_step().regions) {
    if (!IsActivation(region) || region.range.tier != TierKind::kFile) continue;
    const int64_t bytes = planned.graph.tensors[region.tensor].bytes();
    EXPECT_EQ(region.range.bytes, (bytes + 4095) / 4096 * 4096);
    odd += bytes % 4096 != 0;
    EXPECT_TRUE(region.label.ends_with(" in file")) << region.label;
    EXPECT_FALSE(region.label.ends_with(" on host in file")) << region.label;
  }
  EXPECT_GT(odd, 0);
}

// Compute steps between each read from the file and the copy to the device that follows it.
int64_t ComputedBetween(const Planned& planned) {
  int64_t computed = 0, between = 0;
  std::vector<int64_t> read_at(planned.micro_step().regions.size(), kNone);  // by region on the host
  for (const Step& step : planned.micro_step().steps) {
    computed += step.lane == Lane::kCompute;
    if (step.kind != StepKind::kMove || !IsActivation(planned.micro_step().regions[step.src.region])) continue;
    if (step.lane == Lane::kFileIn) read_at[step.dst.region] = computed;
    if (step.lane == Lane::kCopyIn && read_at[step.src.region] != kNone) between += computed - read_at[step.src.region];
  }
  return between;
}

TEST(ActivationsInFileTest, ComeBackEarly) {
  const int64_t room = 768 << 10;  // at which the largest unit's parameters leave no holes
  const Planned early(room), late(room, /*prefetch_steps=*/0);
  EXPECT_GT(ActivationsWritten(early.plan), 0);
  EXPECT_GT(ComputedBetween(early), 0);
  EXPECT_EQ(ComputedBetween(late), 0);
}

// A step's time and bytes include what activations take of the file's lanes, once for each micro-batch.
TEST(ActivationsInFileTest, AreTimed) {
  const Planned planned;
  const auto step = [&](double file_rate, int64_t micro_batches) {
    CostModel model = TypicalHostModel(1);
    model.file_read = model.file_write = file_rate;
    return SimulateStep(planned.graph, planned.plan, model, micro_batches);
  };
  const auto written = [&](int64_t micro_batches) {
    return step(1e9, micro_batches).bytes[static_cast<int>(Lane::kFileOut)];
  };
  EXPECT_GE(written(3) - written(2), static_cast<double>(ActivationsWritten(planned.plan)));
  const double slow = step(1e6, 3).seconds - step(1e6, 2).seconds, fast = step(1e9, 3).seconds - step(1e9, 2).seconds;
  EXPECT_GE(slow, static_cast<double>(ActivationsWritten(planned.plan)) * 1e-6);
  EXPECT_LT(fast, slow / 2);
}

TEST(ActivationsInFileTest, BrokenMovesAreFound) {
  const Planned planned;
  ASSERT_EQ(VerifyPlan(planned.graph, planned.plan), absl::OkStatus());
  // With `refit`, lifetimes and waits are fitted to the broken steps, so that only the fault itself is wrong.
  using Fault = std::function<void(std::vector<Step>&, size_t)>;
  const auto broken = [&](Lane lane, const Fault& fault, bool refit) {
    Plan plan = planned.plan;
    Segment& segment = plan.segments[kMicroStepSegment];
    size_t at = 0;
    const auto wanted = [&](const Step& step) {
      return step.lane == lane && IsActivation(segment.regions[step.src.region]) && step.src.bytes > 4096;
    };
    while (!wanted(segment.steps[at])) ++at;
    fault(segment.steps, at);
    if (refit) UpdateLifetimes(segment);
    if (refit) OrderSteps(planned.graph, segment);
    return std::string(VerifyPlan(planned.graph, plan).message());
  };
  const auto found = [&](Lane lane, const Fault& fault) { return broken(lane, fault, /*refit=*/true); };
  const auto drop = [](std::vector<Step>& steps, size_t at) { steps.erase(steps.begin() + static_cast<int64_t>(at)); };
  const auto leave_a_block = [](std::vector<Step>& steps, size_t at) {
    steps[at].src.bytes -= 4096, steps[at].dst.bytes -= 4096;
  };
  const auto half_a_block = [](std::vector<Step>& steps, size_t at) {
    steps[at].src.bytes -= 2048, steps[at].dst.bytes -= 2048;
  };
  const auto wait_for_nothing = [](std::vector<Step>& steps, size_t at) { steps[at].waits = {}; };
  const auto another_lane = [](std::vector<Step>& steps, size_t at) { steps[at].lane = Lane::kCopyOut; };
  for (const Lane lane : {Lane::kFileOut, Lane::kFileIn}) {
    EXPECT_THAT(found(lane, drop), HasSubstr("are not there, but "));
    EXPECT_THAT(found(lane, leave_a_block), HasSubstr("moves a part of "));
    EXPECT_THAT(found(lane, half_a_block), HasSubstr("are not whole blocks of 4096"));
    EXPECT_THAT(found(lane, another_lane), HasSubstr("on lane copy-out, wanted "));
    EXPECT_THAT(broken(lane, wait_for_nothing, /*refit=*/false), HasSubstr("nothing orders its access to region "));
  }
}

// Reading another tensor's pages from the file is found.
TEST(ActivationsInFileTest, AStalePageIsFound) {
  const Planned planned;
  Plan plan = planned.plan;
  Segment& segment = plan.segments[kMicroStepSegment];
  std::vector<Step>& steps = segment.steps;
  // Two tensors that wait at the same time and have the same size are read from each other's places in the file.
  const auto is_read = [&](const Step& step) {
    return step.lane == Lane::kFileIn && IsActivation(segment.regions[step.src.region]);
  };
  const auto first = std::find_if(steps.begin(), steps.end(), is_read);
  ASSERT_NE(first, steps.end());
  const auto second = std::find_if(first + 1, steps.end(), [&](const Step& step) {
    return is_read(step) && step.src.bytes == first->src.bytes &&
           segment.regions[step.src.region].first_step < first - steps.begin();
  });
  ASSERT_NE(second, steps.end());
  std::swap(first->src, second->src);
  UpdateLifetimes(segment);
  OrderSteps(planned.graph, segment);
  EXPECT_THAT(std::string(VerifyPlan(planned.graph, plan).message()), HasSubstr("to the place of "));
  // The same if each region also claims to hold the other tensor.
  std::swap(segment.regions[first->src.region].tensor, segment.regions[second->src.region].tensor);
  EXPECT_FALSE(VerifyPlan(planned.graph, plan).ok());
}

// Beside a lock-free update activations stay on the host, because the sweeps own the file's lanes.
TEST(ActivationsInFileTest, StayOnTheHostBesideALockFreeUpdate) {
  std::vector<StateSpec> states = AdamWStates();
  for (StateSpec& state : LockFreeStates(DType::kFloat32)) states.push_back(std::move(state));
  const Graph graph = TrainingGraph(SmallShape(4, false), kSmallBatch, false, states);
  const BackendFacts facts = FactsFor(graph);
  PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 64 << 10, .file_bytes = kRoomyTier};
  options.device_bytes = LeastDeviceBytes(graph, facts, options);
  options.host_bytes = LeastHostBytes(graph, facts, options);
  Plan plan = MakePlan(graph, facts, options).value();
  EXPECT_EQ(VerifyPlan(graph, plan), absl::OkStatus());
  EXPECT_EQ(ActivationsWritten(plan), 0);
  EXPECT_GT(plan.peaks[1].by_class[static_cast<int>(MemoryClass::kActivations)], 0);
  for (Step& step : plan.segments[kMicroStepSegment].steps) {
    if (step.lane == Lane::kCopyOut) step.lane = Lane::kFileOut;
  }
  EXPECT_THAT(std::string(VerifyPlan(graph, plan).message()), HasSubstr("file-out, which belongs to sweeps"));
}

}  // namespace
}  // namespace angel_ptm
