// If state is not where a step looks for it, the run stops before the step reads it. The plans are altered after they
// were verified, so only the check at run time can find the fault.
#include "angel_ptm/exec/residency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/plan/verify.h"
#include "comm/local.h"
#include "tests/laws/tiny_run.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

class ResidencyTest : public testing::Test {
 protected:
  // The children start threads of their own.
  ResidencyTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  enum class Homes { kDevice, kHost, kBoth };
  void PutGradientsInParameters() {
    run_.compute = run_.gradients = DType::kBFloat16;
    micro_batches_ = 1;
  }
  // All state on the device, all on the host, or moments on the host and some parameters and gradients on the device.
  void MakePlanOf(int zero_stage, Homes homes, int world = 1) {
    graph_ = TinyGraph(run_);
    const BackendFacts facts = FactsOf(graph_, CpuKernels(), {.threads = 1}, world).value();
    PlanOptions options{.world_size = world, .zero_stage = zero_stage, .page_bytes = 4096, .prefetch_steps = 4};
    world_ = world;
    if (homes == Homes::kHost) options.device_bytes = plan_testing::LeastDeviceBytes(graph_, facts, options);
    if (homes == Homes::kBoth) options.device_bytes = MakePlan(graph_, facts, options).value().arena_bytes[0];
    do {
      if (homes == Homes::kBoth) options.device_bytes -= options.device_bytes / 20;
      plan_ = MakePlan(graph_, facts, options).value();
      APTM_CHECK(VerifyPlan(graph_, plan_).ok());
    } while (homes == Homes::kBoth && !HasStagedUpdate());
  }
  Plan& plan() { return plan_; }

  void Play() {
    LocalWorld world(world_);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < world_; ++rank) ranks.emplace_back([&, rank] { PlayRank(*world.Create(rank)); });
    for (std::thread& rank : ranks) rank.join();
  }

  void PlayRank(Communicator& communicator) {
    const auto device = MakeHostArena(TierKind::kDevice, plan_.arena_bytes[0]).value();
    const auto host = MakeHostArena(TierKind::kHost, plan_.arena_bytes[1]).value();
    Lanes lanes;
    const Machine machine{device.get(), host.get(), &communicator, &communicator, &CpuKernels(), &lanes};
    const auto executor = Executor::Create(graph_, plan_, machine, {}).value();
    const StepHooks hooks{.feed = [](int64_t, int64_t) { return absl::OkStatus(); },
                          .decide = [](const StepExchange&) { return UpdateDecision{}; }};
    for (int64_t step = 0; step < 2; ++step) {
      APTM_CHECK(executor->Run(plan_.programs[0], step, micro_batches_, hooks).ok());
    }
  }

  static Step& Find(Segment& segment, const std::function<bool(const Step&)>& is) {
    for (Step& step : segment.steps) {
      if (is(step)) return step;
    }
    APTM_CHECK(false, "no such step");
  }
  static bool Staged(const Segment& segment, const Place& place) {
    return segment.regions[place.region].memory_class == MemoryClass::kStaging;
  }
  // An update on the host of parameters and gradients whose pages come from the device.
  bool IsStagedUpdate(const Step& s) {
    return s.kind == StepKind::kUpdate && Staged(plan().segments[kUpdateSegment], s.operands[kParameters]) &&
           Staged(plan().segments[kUpdateSegment], s.operands[kGradient]);
  }
  bool HasStagedUpdate() {
    const std::vector<Step>& steps = plan().segments[kUpdateSegment].steps;
    return std::any_of(steps.begin(), steps.end(), [this](const Step& s) { return IsStagedUpdate(s); });
  }
  Step& StagedUpdate() {
    return Find(plan().segments[kUpdateSegment], [this](const Step& s) { return IsStagedUpdate(s); });
  }
  // The move that brings an operand of a staged update, or takes it back.
  Step& MoveOf(const Place& operand, Lane lane) {
    return Find(plan().segments[kUpdateSegment], [&](const Step& s) {
      return s.kind == StepKind::kMove && s.lane == lane &&
             (lane == Lane::kCopyOut ? s.dst : s.src).region == operand.region;
    });
  }

  static constexpr int kParameters = 0, kMoment1 = 1, kMoment2 = 2, kGradient = 3;  // slots of AdamW
  TinyRun run_;
  int64_t micro_batches_ = 2;
  Graph graph_;
  Plan plan_;
  int world_ = 1;
};

TEST_F(ResidencyTest, AVerifiedPlanPasses) {
  for (int zero_stage = 0; zero_stage <= 3; ++zero_stage) {
    for (Homes homes : {Homes::kDevice, Homes::kHost, Homes::kBoth}) {
      for (int world : {1, 2}) {
        MakePlanOf(zero_stage, homes, world);
        Play();
      }
    }
  }
}

TEST_F(ResidencyTest, AVerifiedPlanPassesWhereGradientsTakeThePlaceOfParameters) {
  PutGradientsInParameters();
  for (Homes homes : {Homes::kDevice, Homes::kHost, Homes::kBoth}) {
    for (int world : {1, 2}) {
      MakePlanOf(3, homes, world);
      Play();
    }
  }
}

using ResidencyDeathTest = ResidencyTest;

TEST_F(ResidencyDeathTest, ParametersReadWhenGradientsHaveTakenTheirPlace) {
  PutGradientsInParameters();
  MakePlanOf(3, Homes::kHost);
  std::vector<angel_ptm::Play>& plays = plan().programs[0].plays;
  plays.insert(plays.begin(), plays[0]);
  EXPECT_DEATH(this->Play(), "is newest at device -1, read from host");
}

TEST_F(ResidencyDeathTest, AGradientReadWhenItsUpdateHasTakenThePlaceBack) {
  PutGradientsInParameters();
  for (Homes homes : {Homes::kDevice, Homes::kHost}) {
    MakePlanOf(3, homes);
    plan().programs[0].plays.push_back(plan().programs[0].plays.back());
    EXPECT_DEATH(this->Play(), "is newest at device -1, read from (device|host)");
  }
}

TEST_F(ResidencyDeathTest, ASecondMicroBatchWhereGradientsTakeThePlaceOfParameters) {
  PutGradientsInParameters();
  MakePlanOf(3, Homes::kDevice);
  micro_batches_ = 2;
  EXPECT_DEATH(this->Play(), "2 micro-batches would read parameters whose place gradients have taken");
}

TEST_F(ResidencyDeathTest, ACopyFromAStaleHome) {
  MakePlanOf(3, Homes::kBoth);
  // The second move fetches what the first one has already fetched for the update.
  const Step& update = StagedUpdate();
  const Step& first = MoveOf(update.operands[kParameters], Lane::kCopyOut);
  Step& second = MoveOf(update.operands[kGradient], Lane::kCopyOut);
  second.src = first.src;
  second.state = first.state;
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, ACopyThatNeverHappened) {
  MakePlanOf(3, Homes::kBoth);
  MoveOf(StagedUpdate().operands[kParameters], Lane::kCopyOut).unit = kNone;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from host");
}

TEST_F(ResidencyDeathTest, AnUpdateOfAnotherPage) {
  MakePlanOf(3, Homes::kBoth);
  Step& update = StagedUpdate();
  update.operands[kParameters] = update.operands[kGradient];
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from host");
}

TEST_F(ResidencyDeathTest, AnUpdateOfAnotherHome) {
  for (Homes homes : {Homes::kDevice, Homes::kHost}) {
    MakePlanOf(0, homes);
    Step& update = Find(plan().segments[kUpdateSegment], [](const Step& s) { return s.kind == StepKind::kUpdate; });
    update.operands[kGradient] = update.operands[kMoment2];
    EXPECT_DEATH(Play(), homes == Homes::kDevice ? "is newest at device [0-9]+, read from device"
                                                 : "is newest at host [0-9]+, read from host");
  }
}

TEST_F(ResidencyDeathTest, ACopyBackOfAnotherPage) {
  MakePlanOf(3, Homes::kBoth);
  const Step& update = StagedUpdate();
  MoveOf(update.operands[kParameters], Lane::kCopyIn).src = update.operands[kGradient];
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from host");
}

TEST_F(ResidencyDeathTest, AGatherOfAnotherSlice) {
  MakePlanOf(1, Homes::kHost, 2);
  Step& gather = Find(plan().segments[kUpdateSegment],
                      [](const Step& s) { return s.kind == StepKind::kAllGather && s.state == kParameterState; });
  gather.src.begin += 4096;
  EXPECT_DEATH(Play(), "is newest at (device|host) [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AGatherOfAnotherHome) {
  MakePlanOf(3, Homes::kDevice, 2);
  const auto is_gather = [](const Step& s) { return s.kind == StepKind::kAllGather; };
  Step& gather = Find(plan().segments[kMicroStepSegment], is_gather);
  const auto is_another = [&](const Step& s) { return is_gather(s) && s.src.region != gather.src.region; };
  gather.src.region = Find(plan().segments[kMicroStepSegment], is_another).src.region;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AReductionIntoGradientsThatNeverCame) {
  MakePlanOf(3, Homes::kHost);
  Find(plan().segments[kMicroStepSegment], [](const Step& s) {
    return s.kind == StepKind::kMove && s.lane == Lane::kCopyIn && s.unit != kNone && s.state == kGradientState;
  }).unit = kNone;
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from device");
}

// A fetch for what the first micro-batch overwrites is skipped, since a stale copy there is never read. Skipping a
// fetch that something else depends on is found.
TEST_F(ResidencyDeathTest, AFetchThatIsSkippedWithoutNeed) {
  MakePlanOf(3, Homes::kHost);
  Find(plan().segments[kMicroStepSegment], [](const Step& s) {
    return s.kind == StepKind::kMove && s.lane == Lane::kCopyOut && s.state == kGradientState;
  }).when = When::kAccumulating;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+");
}

}  // namespace
}  // namespace angel_ptm
