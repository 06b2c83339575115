// Plans whose gradients rest in their parameters' places, and faults in them that VerifyPlan names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "optim/adamw.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr int64_t kGuestPage = 64 << 10;

class GradientPlaces : public ::testing::Test {
 protected:
  GradientPlaces()
      : graph_(plan_testing::TrainingGraph(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, false,
                                           AdamWStates(DType::kBFloat16, DType::kBFloat16))),
        facts_(plan_testing::FactsFor(graph_)) {}

  // A plan with `percent` of the unconstrained peak on the device; 0: the least that works.
  Plan PlanFor(int world, int stage, int percent, bool file = false) const {
    PlanOptions options{.world_size = world, .zero_stage = stage, .page_bytes = kGuestPage, .prefetch_steps = 2};
    Plan plan = MakePlan(graph_, facts_, options).value();
    if (percent < 100) {
      options.device_bytes =
          percent > 0 ? plan.arena_bytes[0] * percent / 100 : plan_testing::LeastDeviceBytes(graph_, facts_, options);
      if (file) options.file_bytes = int64_t{1} << 40;
      if (file) options.host_bytes = plan_testing::LeastHostBytes(graph_, facts_, options);
      plan = MakePlan(graph_, facts_, options).value();
    }
    return plan;
  }
  // Bytes that a segment's moves of a state write.
  static int64_t Moved(const Segment& segment, StateId state) {
    int64_t bytes = 0;
    for (const Step& step : segment.steps) {
      if (step.kind == StepKind::kMove && step.unit != kNone && step.state == state) bytes += step.dst.bytes;
    }
    return bytes;
  }
  static int32_t FirstOf(const Segment& segment, const std::function<bool(const Step&)>& is) {
    const auto it = std::find_if(segment.steps.begin(), segment.steps.end(), is);
    EXPECT_NE(it, segment.steps.end()) << "nothing to sabotage";
    return static_cast<int32_t>(it - segment.steps.begin());
  }
  std::string Verdict(const Plan& plan) const { return std::string(VerifyPlan(graph_, plan).message()); }

  const Graph graph_;
  const BackendFacts facts_;
};

TEST_F(GradientPlaces, AreThoseOfParametersWhereRanksStoreTheSamePartOfBoth) {
  for (const int world : {1, 2}) {
    for (const int stage : {0, 1, 2, 3}) {
      const Plan plan = PlanFor(world, stage, 100);
      const bool shares = world == 1 || stage == 3;
      EXPECT_EQ(BytesPerParameter(plan.layout), shares ? 14 : 16);
      for (UnitId u = 0; u < static_cast<UnitId>(graph_.units().size()); ++u) {
        const MemoryRange gradients = plan.layout.home(u, kGradientState).range;
        EXPECT_EQ(gradients == plan.layout.home(u, kParameterState).range, shares) << world << " " << stage;
      }
      EXPECT_EQ(Verdict(plan), "");
      const std::string in_place = shares ? "gradients BF16 in the place of parameters" : "gradients BF16, ";
      EXPECT_THAT(PlanSummary(graph_, plan), HasSubstr(in_place));
    }
  }
}

// Where parameters rest off the device, only the reduced gradient is sent home, and an update fetches nothing else.
TEST_F(GradientPlaces, NothingTravelsBesideThem) {
  for (const bool file : {false, true}) {
    const Plan plan = PlanFor(2, 3, 0, file);
    ASSERT_EQ(Verdict(plan), "");
    ASSERT_EQ(plan.layout.home_bytes[0], 0);
    int64_t slices = 0;
    for (const Home& home : plan.layout.homes) slices += home.state == kParameterState ? home.range.bytes : 0;
    const Segment &micro_step = plan.segments[kMicroStepSegment], &update = plan.segments[kUpdateSegment];
    EXPECT_EQ(Moved(micro_step, kGradientState), slices * (file ? 2 : 1));
    EXPECT_EQ(Moved(update, kGradientState), file ? slices : 0);
    EXPECT_EQ(Moved(update, kParameterState), file ? slices : 0);
  }
}

// An evaluation that uses the same homes finds parameters in them and does not overwrite them.
TEST_F(GradientPlaces, EvaluationLeavesParameters) {
  const Plan training = PlanFor(1, 0, 60);
  const Graph evaluation =
      BuildHunyuanLmEvaluation(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, graph_.table);
  const BackendFacts facts = plan_testing::FactsFor(evaluation);
  const auto plan = MakePlan(evaluation, facts, {.page_bytes = kGuestPage}, &training.layout);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const absl::Status sound = VerifyPlan(evaluation, *plan);
  EXPECT_TRUE(sound.ok()) << sound;
}

// Parameters rest on the device, where ops read them. After the last read their gradient takes their place.
TEST_F(GradientPlaces, ParametersReadBehindTheirGradientAreNamed) {
  Plan plan = PlanFor(1, 0, 100);
  Segment& micro_step = plan.segments[kMicroStepSegment];
  const auto reads = [&](const Step& step, UnitId unit) {
    if (step.kind != StepKind::kCompute) return false;
    const std::vector<TensorId>& inputs = graph_.ops[step.op].inputs;
    return std::any_of(inputs.begin(), inputs.end(), [&](TensorId t) {
      return t != kNone && graph_.tensors[t].tensor_class == TensorClass::kParameter && graph_.tensors[t].unit == unit;
    });
  };
  const auto reduction = [&](const std::string& name) {
    return FirstOf(micro_step, [&](const Step& step) {
      return step.kind == StepKind::kReduceScatter && graph_.units()[step.unit].name == name;
    });
  };
  for (const Unit& unit : graph_.units()) {
    const int32_t reduce = reduction(unit.name);
    for (size_t i = reduce; i < micro_step.steps.size(); ++i) {
      EXPECT_FALSE(reads(micro_step.steps[i], micro_step.steps[reduce].unit)) << i;
    }
  }
  // A gradient takes the place of another layer's parameters, which are still to be read.
  Step& later = micro_step.steps[reduction("layers.1.dense")];
  later.dst = micro_step.steps[reduction("layers.0.dense")].dst;
  UpdateLifetimes(micro_step);
  OrderSteps(graph_, micro_step);
  EXPECT_THAT(Verdict(plan),
              ContainsRegex("of layers.0.dense parameters are not there, but byte [0-9]+ of layers.1.dense gradients"));
}

// The gradient goes home to the host, and then the parameters are fetched from the same place once more.
TEST_F(GradientPlaces, AFetchOfParametersBehindTheirGradientIsNamed) {
  Plan plan = PlanFor(1, 0, 0);
  Segment& micro_step = plan.segments[kMicroStepSegment];
  const int32_t goes_home = FirstOf(micro_step, [](const Step& step) {
    return step.kind == StepKind::kMove && step.lane == Lane::kCopyOut && step.state == kGradientState;
  });
  const UnitId unit = micro_step.steps[goes_home].unit;
  const int32_t fetch = FirstOf(micro_step, [&](const Step& step) {
    return step.kind == StepKind::kMove && step.lane == Lane::kCopyIn && step.unit == unit &&
           step.state == kParameterState;
  });
  Step again = micro_step.steps[fetch];
  micro_step.regions.push_back(micro_step.regions[again.dst.region]);
  again.dst.region = static_cast<int32_t>(micro_step.regions.size()) - 1;
  micro_step.steps.push_back(again);
  UpdateLifetimes(micro_step);
  OrderSteps(graph_, micro_step);
  const std::string& name = graph_.units()[unit].name;
  EXPECT_THAT(Verdict(plan),
              HasSubstr("of " + name + " parameters are not there, but byte 0 of " + name + " gradients"));
}

// An update of pages that rest on the host: once the first page has come back, its place holds parameters.
TEST_F(GradientPlaces, AGradientThatIsReadBehindTheUpdateIsNamed) {
  Plan plan = PlanFor(1, 0, 70);
  Segment& update = plan.segments[kUpdateSegment];
  const auto moves = [](StateId state, Lane lane, UnitId unit) {
    return [=](const Step& step) {
      return step.kind == StepKind::kMove && step.lane == lane && step.state == state &&
             (unit == kNone || step.unit == unit);
    };
  };
  const int32_t fetch = FirstOf(update, moves(kGradientState, Lane::kCopyOut, kNone));
  const Step first = update.steps[fetch];
  const int32_t back = FirstOf(update, moves(kParameterState, Lane::kCopyIn, first.unit));
  Step again = first;
  update.regions.push_back(update.regions[first.dst.region]);
  again.dst.region = static_cast<int32_t>(update.regions.size()) - 1;
  update.steps.insert(update.steps.begin() + back + 1, again);
  UpdateLifetimes(update);
  OrderSteps(graph_, update);
  EXPECT_THAT(Verdict(plan), HasSubstr("are not there, but byte 0 of"));
}

TEST_F(GradientPlaces, AGradientThatDoesNotGoHomeIsNamed) {
  Plan plan = PlanFor(1, 0, 0);
  Segment& micro_step = plan.segments[kMicroStepSegment];
  const int32_t goes_home = FirstOf(micro_step, [](const Step& step) {
    return step.kind == StepKind::kMove && step.lane == Lane::kCopyOut && step.state == kGradientState;
  });
  micro_step.steps.erase(micro_step.steps.begin() + goes_home);
  UpdateLifetimes(micro_step);
  OrderSteps(graph_, micro_step);
  EXPECT_THAT(Verdict(plan), HasSubstr("is not up to date: "));
}

TEST_F(GradientPlaces, AnUpdateThatMissesItsGradientIsNamed) {
  Plan plan = PlanFor(1, 0, 100);
  Segment& update = plan.segments[kUpdateSegment];
  Step& step = update.steps[FirstOf(update, [](const Step& s) { return s.kind == StepKind::kUpdate; })];
  // Shifts the written parameters by half a page, so that they overwrite the gradient of other elements.
  step.operands[0].begin += 64;
  step.operands[0].bytes -= 64;
  EXPECT_THAT(Verdict(plan), HasSubstr("bytes of parameters to"));
}

TEST_F(GradientPlaces, AHomeOfTheirOwnIsNamed) {
  Plan plan = PlanFor(1, 0, 100);
  Home& home = plan.layout.homes[plan.layout.HomeIndex(0, kGradientState)];
  home.range.offset = plan.layout.home(1, kParameterState).range.offset;
  EXPECT_THAT(Verdict(plan), HasSubstr("is not that of the parameters, whose place it takes"));
}

}  // namespace
}  // namespace angel_ptm
