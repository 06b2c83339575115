// Starting steps early keeps lanes busy, and StartEarly's work does not grow with the prefetch distance.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "angel_ptm/plan/simulate.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

// An update of thousands of pages, and a micro-step with gathers and fetches.
class StartEarlyTest : public ::testing::Test {
 protected:
  StartEarlyTest()
      : graph_(plan_testing::TrainingGraph(plan_testing::SmallShape(24, false), plan_testing::kSmallBatch, false)),
        facts_(plan_testing::FactsFor(graph_)) {
    PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 4096};
    options.device_bytes = plan_testing::LeastDeviceBytes(graph_, facts_, options);
    plan_ = *MakePlan(graph_, facts_, options);
  }

  // The largest number of live bytes at any step, which is also the segment's budget.
  static int64_t Most(const Segment& segment) {
    const std::vector<int64_t> live = LiveBytes(segment, TierKind::kDevice);
    return *std::max_element(live.begin(), live.end());
  }

  const Graph graph_;
  const BackendFacts facts_;
  Plan plan_;
};

TEST_F(StartEarlyTest, LooksAtAsMuchHoweverFarItMayReach) {
  for (const bool update : {false, true}) {
    const Segment natural = update ? BuildUpdate(graph_, plan_.layout, plan_.fixed)
                                   : BuildMicroStep(graph_, plan_.layout, plan_.fixed, facts_);
    const auto steps = static_cast<int64_t>(natural.steps.size());
    int64_t log_steps = 1;
    while (int64_t{1} << log_steps < steps) ++log_steps;
    for (const int64_t room : {int64_t{0}, int64_t{64} << 10, int64_t{1} << 40}) {
      for (const int prefetch_steps : {1, 8, 1000, 65'536}) {
        SCOPED_TRACE(absl::StrCat(update ? "update" : "micro-step", " of ", steps, " steps, prefetch ", prefetch_steps,
                                  ", room for ", room, " more"));
        Segment segment = natural;
        const int64_t budget = Most(natural) + room;
        const int64_t visits = StartEarly(graph_, segment, TierKind::kDevice, budget, prefetch_steps) +
                               LeaveLate(graph_, segment, TierKind::kDevice, budget, prefetch_steps);
        EXPECT_LE(visits, 16 * steps * log_steps);
        EXPECT_LE(Most(segment), budget);
      }
    }
  }
}

TEST_F(StartEarlyTest, BringsArrivalsForward) {
  const Segment natural = BuildMicroStep(graph_, plan_.layout, plan_.fixed, facts_);
  Segment early = natural;
  StartEarly(graph_, early, TierKind::kDevice, int64_t{1} << 40, 8);
  const auto early_arrivals = [](const Segment& segment) {
    int64_t arrivals = 0, computed = 0;
    for (const Step& step : segment.steps) {
      computed += step.kind == StepKind::kCompute ? 1 : 0;
      if (computed > 5) break;
      arrivals += step.kind == StepKind::kMove && step.lane == Lane::kCopyIn ? 1 : 0;
    }
    return arrivals;
  };
  EXPECT_GT(early_arrivals(early), early_arrivals(natural));
}

// The optimizer's states rest on the host, everything else on the device. An update's pages travel while others are
// updated; one after the other, an update would take as long as all its lanes together.
TEST_F(StartEarlyTest, PagesOfAnUpdateTravelBesideOthers) {
  PlanOptions options{.page_bytes = 4096};
  const TierPeak all = MakePlan(graph_, facts_, options).value().peaks[static_cast<int>(TierKind::kDevice)];
  options.device_bytes = all.bytes - all.by_class[static_cast<int>(MemoryClass::kOptimizer)] / 2;
  const auto seconds_of_lanes = [&](const Plan& plan) {
    const Segment& update = plan.segments[kUpdateSegment];
    std::vector<StepCost> costs(update.steps.size());
    for (size_t i = 0; i < costs.size(); ++i) {
      const Lane lane = update.steps[i].lane;
      const bool counts = lane == Lane::kCopyIn || lane == Lane::kCopyOut || lane == Lane::kHostCompute;
      costs[i].seconds = counts ? 1 : 0;
    }
    const SegmentTime time = SimulateSegment(update, costs, {1, 1, 1});
    return std::pair(time.seconds, std::accumulate(time.busy.begin(), time.busy.end(), 0.0));
  };
  const Plan plan = MakePlan(graph_, facts_, options).value();
  ASSERT_EQ(VerifyPlan(graph_, plan), absl::OkStatus());
  const auto [seconds, lanes] = seconds_of_lanes(plan);
  ASSERT_GT(lanes, 1000) << "no pages";
  EXPECT_LT(seconds, 0.6 * lanes);
  // Where the host has no room for that, pages do not travel early.
  options.host_bytes = plan_testing::LeastHostBytes(graph_, facts_, options);
  const Plan least = MakePlan(graph_, facts_, options).value();
  EXPECT_LE(least.arena_bytes[static_cast<int>(TierKind::kHost)], options.host_bytes);
  EXPECT_LT(options.host_bytes, plan.arena_bytes[static_cast<int>(TierKind::kHost)]);
}

}  // namespace
}  // namespace angel_ptm
