// Plans broken on purpose: VerifyPlan names what is wrong with each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "optim/adamw.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

const Graph& TestGraph() {
  static const Graph* const graph =
      new Graph(plan_testing::TrainingGraph(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, false));
  return *graph;
}

// A plan of two ranks within `percent` of the unconstrained peak.
Plan PlanOf(int stage, int percent) {
  const BackendFacts facts = plan_testing::FactsFor(TestGraph());
  PlanOptions options{.world_size = 2, .zero_stage = stage, .page_bytes = 64 << 10, .prefetch_steps = 2};
  absl::StatusOr<Plan> plan = MakePlan(TestGraph(), facts, options);
  if (percent < 100) {
    options.device_bytes = plan->arena_bytes[0] * percent / 100;
    plan = MakePlan(TestGraph(), facts, options);
  }
  return *std::move(plan);
}

using Predicate = std::function<bool(const Step&)>;

int32_t Find(const Segment& segment, const Predicate& predicate) {
  const auto it = std::find_if(segment.steps.begin(), segment.steps.end(), predicate);
  EXPECT_NE(it, segment.steps.end()) << "nothing to sabotage";
  return static_cast<int32_t>(it - segment.steps.begin());
}

Predicate Is(StepKind kind) {
  return [kind](const Step& step) { return step.kind == kind; };
}
Predicate IsOp(OpKind kind) {
  return [kind](const Step& step) { return step.kind == StepKind::kCompute && TestGraph().ops[step.op].kind == kind; };
}
// A move of unit state.
Predicate IsMove(Lane lane, StateId state) {
  return [lane, state](const Step& step) {
    return step.kind == StepKind::kMove && step.lane == lane && step.unit != kNone && step.state == state;
  };
}

Segment& MicroStep(Plan& plan) { return plan.segments[kMicroStepSegment]; }
Segment& Update(Plan& plan) { return plan.segments[kUpdateSegment]; }
// Fits lifetimes and waits to the mutated steps, so that only the mutation itself is wrong.
void Refit(Segment& segment) {
  UpdateLifetimes(segment);
  OrderSteps(TestGraph(), segment);
}
void Erase(Segment& segment, const Predicate& predicate) {
  segment.steps.erase(segment.steps.begin() + Find(segment, predicate));
  Refit(segment);
}
void Duplicate(Segment& segment, const Predicate& predicate) {
  const int32_t i = Find(segment, predicate);
  segment.steps.insert(segment.steps.begin() + i, segment.steps[i]);
  Refit(segment);
}
// Moves step `from` to just before step `to`.
void Relocate(Segment& segment, int32_t from, int32_t to) {
  const Step step = segment.steps[from];
  segment.steps.erase(segment.steps.begin() + from);
  segment.steps.insert(segment.steps.begin() + (to > from ? to - 1 : to), step);
  Refit(segment);
}

struct Sabotage {
  std::string name;
  int stage, percent;
  std::function<void(Plan&)> mutate;
  std::string message;  // VerifyPlan's must contain it
};

class VerifySabotage : public ::testing::TestWithParam<Sabotage> {};

TEST_P(VerifySabotage, IsNamed) {
  Plan plan = PlanOf(GetParam().stage, GetParam().percent);
  const absl::Status before = VerifyPlan(TestGraph(), plan);
  ASSERT_TRUE(before.ok()) << before;
  GetParam().mutate(plan);
  const absl::Status after = VerifyPlan(TestGraph(), plan);
  EXPECT_EQ(after.code(), absl::StatusCode::kInternal) << after;
  EXPECT_THAT(std::string(after.message()), HasSubstr(GetParam().message));
}

std::vector<Sabotage> ProgramSabotages() {
  using Times = Play::Times;
  return {
      {"MicroBatchesTwice", 0, 100,
       [](Plan& p) { p.programs[0].plays.insert(p.programs[0].plays.begin(), p.programs[0].plays[0]); },
       "program step plays 2 of 1 micro-batches"},
      {"FirstMicroBatchLeftOut", 0, 100, [](Plan& p) { p.programs[0].plays[0].times = Times::kEachButFirst; },
       "plays 0 of 1 micro-batches"},
      {"BegunMicroBatchAgain", 0, 100, [](Plan& p) { p.programs[2].plays[0].times = Times::kEachMicroBatch; },
       "program begun step plays 2 of 1"},
      {"NoUpdate", 0, 100, [](Plan& p) { p.programs[0].plays.pop_back(); }, "has 0 updates, wanted 1"},
      {"MicroBatchesBehindTheUpdate", 0, 100,
       [](Plan& p) { std::swap(p.programs[0].plays[0], p.programs[0].plays[1]); }, "behind the update"},
      {"UpdatePerMicroBatch", 0, 100, [](Plan& p) { p.programs[0].plays[1].times = Times::kEachMicroBatch; },
       "plays update so many times"},
      {"SecretlyBegins", 0, 100, [](Plan& p) { p.programs[0].plays[1].segment = kJoinedSegment; },
       "program step begins the next step"},
      {"BeginsWhatNobodyEnds", 0, 100, [](Plan& p) { p.programs.erase(p.programs.begin() + 2); },
       "begins a step that no program ends"},
      {"NoWholeStep", 0, 100, [](Plan& p) { p.programs.erase(p.programs.begin()); }, "no program is a whole step"},
      {"SegmentThatIsNot", 0, 100, [](Plan& p) { p.programs[0].plays[1].segment = 7; }, "plays segment 7 of 3"},
      {"SegmentInAnothersPlace", 0, 100, [](Plan& p) { std::swap(p.segments[0], p.segments[1]); },
       "other parts of the graph"},
      {"SegmentMissing", 0, 100, [](Plan& p) { p.segments.resize(1); }, "1 segments"},
  };
}

std::vector<Sabotage> MicroStepSabotages() {
  return {
      {"MissingOp", 0, 100, [](Plan& p) { Erase(MicroStep(p), IsOp(OpKind::kRopeTable)); }, "rope.cos_sin"},
      {"MissingContribution", 0, 100, [](Plan& p) { Erase(MicroStep(p), IsOp(OpKind::kEmbeddingGrad)); },
       "1 of 2 contributions"},
      {"MissingLastOp", 0, 100,
       [](Plan& p) {
         Erase(MicroStep(p), [](const Step& step) { return step.kind == StepKind::kReduceScatter && step.unit == 0; });
         Erase(MicroStep(p), IsOp(OpKind::kEmbeddingGrad));
       },
       "never runs"},
      {"OpTwice", 0, 100, [](Plan& p) { Duplicate(MicroStep(p), IsOp(OpKind::kRouter)); }, "a second time"},
      {"SwappedOps", 0, 100,
       [](Plan& p) {
         const int32_t i = Find(MicroStep(p), IsOp(OpKind::kSwiglu));
         std::swap(MicroStep(p).steps[i], MicroStep(p).steps[i - 1]);
         Refit(MicroStep(p));
       },
       "after 0 of its writers"},
      {"OperandTooShort", 2, 100,
       [](Plan& p) { MicroStep(p).steps[Find(MicroStep(p), IsOp(OpKind::kSwiglu))].operands[0].bytes -= 4; },
       "operand of"},
      {"OutputOverInput", 2, 100,
       [](Plan& p) {
         Step& step = MicroStep(p).steps[Find(MicroStep(p), IsOp(OpKind::kAddRmsNorm))];
         step.operands[4] = step.operands[0];
         Refit(MicroStep(p));
       },
       "overlap"},
      {"ParametersOfAnotherPlace", 0, 100,
       [](Plan& p) {
         Step& step = MicroStep(p).steps[Find(MicroStep(p), IsOp(OpKind::kQkRopeNorm))];
         std::swap(step.operands[2], step.operands[3]);
       },
       "are not there, but byte"},
      {"WrongLane", 0, 100,
       [](Plan& p) {
         MicroStep(p).steps[Find(MicroStep(p), IsOp(OpKind::kRouter))].lane = Lane::kComm;
         Refit(MicroStep(p));
       },
       "runs on lane comm"},
  };
}

std::vector<Sabotage> CollectiveSabotages() {
  return {
      {"DroppedGather", 3, 100, [](Plan& p) { Erase(MicroStep(p), Is(StepKind::kAllGather)); }, "nothing known"},
      {"GatherTwice", 3, 100, [](Plan& p) { Duplicate(MicroStep(p), Is(StepKind::kAllGather)); },
       "gathers of parameters"},
      {"GatherOfAnotherSlice", 3, 45,
       [](Plan& p) { MicroStep(p).steps[Find(MicroStep(p), Is(StepKind::kAllGather))].src.own = false; }, "own slice"},
      {"GatherOfPart", 3, 100,
       [](Plan& p) { MicroStep(p).steps[Find(MicroStep(p), Is(StepKind::kAllGather))].dst.bytes -= 4096; }, "gathers"},
      {"DroppedReduce", 1, 100, [](Plan& p) { Erase(MicroStep(p), Is(StepKind::kReduceScatter)); }, "0 reductions"},
      {"ReduceTwice", 1, 100, [](Plan& p) { Duplicate(MicroStep(p), Is(StepKind::kReduceScatter)); }, "a second time"},
      {"ReduceTooEarly", 1, 100,
       [](Plan& p) {
         const int32_t reduce = Find(MicroStep(p), Is(StepKind::kReduceScatter));
         int32_t writer = reduce - 1;
         while (MicroStep(p).steps[writer].kind != StepKind::kCompute) --writer;
         Relocate(MicroStep(p), reduce, writer);
       },
       "contributions"},
      {"ReduceIntoAnotherSlice", 0, 100,
       [](Plan& p) { MicroStep(p).steps[Find(MicroStep(p), Is(StepKind::kReduceScatter))].dst.own = false; },
       "accumulated gradient"},
      {"DroppedGradientWriteBack", 2, 30, [](Plan& p) { Erase(MicroStep(p), IsMove(Lane::kCopyOut, kGradientState)); },
       "not up to date"},
      {"ConditionalWriteBack", 2, 30,
       [](Plan& p) {
         MicroStep(p).steps[Find(MicroStep(p), IsMove(Lane::kCopyOut, kGradientState))].when = When::kAccumulating;
       },
       "does not take place in every micro-batch"},
      {"ConditionalFetchOfParameters", 3, 30,
       [](Plan& p) {
         MicroStep(p).steps[Find(MicroStep(p), IsMove(Lane::kCopyIn, kParameterState))].when = When::kAccumulating;
       },
       "does not take place in every micro-batch"},
      {"ReturnOfWhatIsNotAlwaysThere", 2, 30, [](Plan& p) { Erase(MicroStep(p), Is(StepKind::kReduceScatter)); },
       "which is not always there"},
      {"WrongLink", 2, 30,
       [](Plan& p) {
         MicroStep(p).steps[Find(MicroStep(p), IsMove(Lane::kCopyOut, kGradientState))].lane = Lane::kCopyIn;
         Refit(MicroStep(p));
       },
       "on lane copy-in, wanted copy-out"},
      {"WrongPages", 2, 30,
       [](Plan& p) { ++MicroStep(p).steps[Find(MicroStep(p), IsMove(Lane::kCopyOut, kGradientState))].first_page; },
       "says pages"},
  };
}

std::vector<Sabotage> OffloadSabotages() {
  return {
      {"DroppedDeparture", 3, 30,
       [](Plan& p) { Erase(MicroStep(p), [](const Step& s) { return s.unit == kNone && s.lane == Lane::kCopyOut; }); },
       "nothing known"},
      {"ArrivalFromAnotherActivation", 3, 30,
       [](Plan& p) {
         const auto arrives = [](const Step& s) {
           return s.unit == kNone && s.kind == StepKind::kMove && s.lane == Lane::kCopyIn;
         };
         Segment& segment = MicroStep(p);
         const int32_t first = Find(segment, arrives);
         const TensorId t = segment.regions[segment.steps[first].src.region].tensor;
         const int32_t second = Find(segment, [&](const Step& s) {
           return arrives(s) && segment.regions[s.src.region].tensor != t &&
                  s.src.bytes >= segment.steps[first].src.bytes;
         });
         segment.steps[first].src.region = segment.steps[second].src.region;
         Refit(segment);
       },
       "to the place of"},
  };
}

std::vector<Sabotage> UpdateSabotages() {
  // At this budget moments rest on the host and some parameters on the device: their pages go to the host and back.
  constexpr int kMixed = 70;
  const auto stale_arrival = [](Plan& p) {
    Segment& s = Update(p);
    const int32_t arrival = Find(s, IsMove(Lane::kCopyOut, kParameterState));
    const Step again = s.steps[arrival];
    const int32_t back = Find(s, [&](const Step& step) { return step.src.region == again.dst.region; });
    s.steps.insert(s.steps.begin() + back, again);
    Refit(s);
  };
  const auto home_of_another = [](Plan& p) {
    Segment& s = Update(p);
    Step& back = s.steps[Find(s, IsMove(Lane::kCopyIn, kParameterState))];
    const int32_t other = Find(s, [&](const Step& step) {
      return IsMove(Lane::kCopyIn, kParameterState)(step) && step.unit != back.unit && step.src.bytes >= back.src.bytes;
    });
    back.dst.region = s.steps[other].dst.region;
    Refit(s);
  };
  const auto on_the_devices_lane = [](Plan& p) {
    Update(p).steps[Find(Update(p), Is(StepKind::kUpdate))].lane = Lane::kCompute;
    Refit(Update(p));
  };
  return {
      {"UpdateTwice", 0, 100, [](Plan& p) { Duplicate(Update(p), Is(StepKind::kUpdate)); }, "updated twice"},
      {"UpdateHole", 2, 30, [](Plan& p) { Erase(Update(p), Is(StepKind::kUpdate)); },
       "before the own slice is updated"},
      {"UpdateShort", 0, 100,
       [](Plan& p) {
         Step& step = Update(p).steps[Find(Update(p), Is(StepKind::kUpdate))];
         step.count -= 1024;
         for (Place& place : step.operands) place.bytes -= 4096;
       },
       "does not cover"},
      {"UpdateOfAnotherSlice", 3, 100,
       [](Plan& p) { Update(p).steps[Find(Update(p), Is(StepKind::kUpdate))].own = false; }, "are not the rank's"},
      {"UpdateBeforeNorm", 0, 100,
       [](Plan& p) {
         Relocate(Update(p), Find(Update(p), Is(StepKind::kUpdate)), Find(Update(p), Is(StepKind::kNorm)));
       },
       "before the norm"},
      {"DroppedNorm", 3, 100, [](Plan& p) { Erase(Update(p), Is(StepKind::kNorm)); }, "before the norm"},
      {"SkippedWriteBack", 0, kMixed, [](Plan& p) { Erase(Update(p), IsMove(Lane::kCopyIn, kParameterState)); },
       "not up to date"},
      {"StaleArrival", 0, kMixed, stale_arrival, "stale copy"},
      {"WrongHome", 0, kMixed, home_of_another, "to the place of"},
      {"HostStateOnTheDevicesLane", 3, 30, on_the_devices_lane, "cannot address"},
      {"DroppedGradientGather", 0, 100,
       [](Plan& p) {
         Erase(Update(p), [](const Step& s) { return s.kind == StepKind::kAllGather && s.state == kGradientState; });
       },
       "nothing known"},
      {"DroppedParameterGather", 1, 100,
       [](Plan& p) {
         Erase(Update(p), [](const Step& s) { return s.kind == StepKind::kAllGather && s.state == kParameterState; });
       },
       "not up to date"},
      {"GatherBeforeUpdate", 2, 100,
       [](Plan& p) {
         Relocate(Update(p), Find(Update(p), Is(StepKind::kAllGather)), Find(Update(p), Is(StepKind::kUpdate)));
       },
       "before the own slice is updated"},
  };
}

std::vector<Sabotage> MemorySabotages() {
  const auto overlap = [](Plan& p) {
    std::vector<Region>& regions = MicroStep(p).regions;
    const auto transient = [](const Region& r) { return !r.permanent && r.range.tier == TierKind::kDevice; };
    for (Region& a : regions) {
      for (const Region& b : regions) {
        if (&a == &b || !transient(a) || !transient(b) || a.range.bytes > b.range.bytes) continue;
        if (a.last_step < b.first_step || b.last_step < a.first_step) continue;
        a.range.offset = b.range.offset;
        return;
      }
    }
  };
  const auto transient = [](Plan& p) -> Region& {
    return *std::find_if(MicroStep(p).regions.begin(), MicroStep(p).regions.end(),
                         [](const Region& r) { return !r.permanent && r.last_step > r.first_step; });
  };
  // No step uses this region and it is not permanent, so it is checked nowhere and another region over it looks
  // harmless.
  const auto unprotected_home = [](Plan& p) {
    std::vector<Region>& regions = MicroStep(p).regions;
    Region& home = *std::find_if(regions.begin(), regions.end(), [](const Region& r) {
      return r.permanent && r.tensor == kNone && r.state == kMoment1State;
    });
    home.permanent = false;
    std::find_if(regions.begin(), regions.end(), [&](const Region& r) {
      return !r.permanent && r.first_step != kNone && r.range.tier == home.range.tier &&
             r.range.bytes <= home.range.bytes;
    })->range.offset = home.range.offset;
  };
  const auto unprotected_output = [](Plan& p) {
    std::vector<Region>& regions = MicroStep(p).regions;
    std::find_if(regions.begin(), regions.end(), [](const Region& r) {
      return r.tensor != kNone && TestGraph().tensors[r.tensor].tensor_class == TensorClass::kOutput;
    })->permanent = false;
  };
  return {
      {"UnprotectedHome", 2, 100, unprotected_home, "no permanent region"},
      {"UnprotectedOutput", 2, 100, unprotected_output, "no permanent region"},
      {"OverlappingRegions", 2, 45, overlap, "alive at the same time and overlap"},
      {"ReleasedTooEarly", 2, 45, [=](Plan& p) { transient(p).last_step -= 1; }, "which lives from step"},
      {"OutsideTheArena", 2, 45, [=](Plan& p) { transient(p).range.offset = p.arena_bytes[0]; }, "outside the"},
      {"Misaligned", 2, 45, [=](Plan& p) { transient(p).range.offset += 4; }, "is not aligned"},
      {"OperandBeyondRegion", 2, 45,
       [](Plan& p) { MicroStep(p).steps[Find(MicroStep(p), IsOp(OpKind::kSwiglu))].operands[0].begin += 64; },
       "of region"},
      {"HomeElsewhere", 2, 45, [](Plan& p) { MicroStep(p).regions[0].range.offset += 4096; }, "permanent region"},
      {"OverlappingHomes", 2, 45,
       [](Plan& p) {
         p.layout.homes[1].range.offset = p.layout.homes[0].range.offset;
         p.layout.homes[1].range.tier = p.layout.homes[0].range.tier;
       },
       "overlap"},
      {"WrongSlices", 2, 45, [](Plan& p) { p.layout.slices[0].slice_elements += kSliceAlignment; }, "cut into slices"},
      {"HomeOfAnotherStage", 2, 45, [](Plan& p) { p.layout.zero_stage = 0; }, "stage 0 demands"},
      {"FixedPlaceTooSmall", 2, 45, [](Plan& p) { p.fixed[TestGraph().FindTensor("tokens")].bytes -= 4; }, "tokens"},
      {"WaitForTheFuture", 2, 45, [](Plan& p) { MicroStep(p).steps[0].waits[0] = 7; }, "are issued before it"},
  };
}

std::vector<Sabotage> AllSabotages() {
  std::vector<Sabotage> all;
  for (auto make : {ProgramSabotages, MicroStepSabotages, CollectiveSabotages, OffloadSabotages, UpdateSabotages,
                    MemorySabotages}) {
    for (Sabotage& sabotage : make()) all.push_back(std::move(sabotage));
  }
  return all;
}

std::string SabotageName(const ::testing::TestParamInfo<Sabotage>& info) { return info.param.name; }
void PrintTo(const Sabotage& sabotage, std::ostream* os) { *os << sabotage.name; }

INSTANTIATE_TEST_SUITE_P(Each, VerifySabotage, ::testing::ValuesIn(AllSabotages()), SabotageName);

// The planner omits waits that others imply, so each wait that it sets is necessary.
TEST(DroppedWait, EveryOneIsMissed) {
  for (int stage = 0; stage <= 3; ++stage) {
    Plan plan = PlanOf(stage, 45);
    int dropped = 0;
    for (Segment* segment : {&plan.segments[kMicroStepSegment], &plan.segments[kUpdateSegment]}) {
      for (Step& step : segment->steps) {
        for (int32_t& wait : step.waits) {
          if (wait == 0) continue;
          ++dropped;
          --wait;  // one step too early
          const absl::Status status = VerifyPlan(TestGraph(), plan);
          EXPECT_FALSE(status.ok());
          EXPECT_TRUE(absl::StrContains(status.message(), "nothing orders") ||
                      absl::StrContains(status.message(), "does not wait"))
              << status;
          ++wait;
        }
      }
    }
    EXPECT_GT(dropped, 50);
    EXPECT_TRUE(VerifyPlan(TestGraph(), plan).ok());
  }
}

}  // namespace
}  // namespace angel_ptm
