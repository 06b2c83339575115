// State that is not where a step looks for it stops the run before the step reads it. Plans are tampered with after
// they were verified, so only the check at run time can find the fault.
#include "angel_ptm/exec/residency.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>

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

  // All state on the host if `offload`, else all on the device.
  void MakePlanOf(int zero_stage, bool offload) {
    const TinyRun run;
    graph_ = TinyGraph(run);
    const BackendFacts facts = FactsOf(graph_, CpuKernels(), {.threads = 1}, 1).value();
    PlanOptions options{.zero_stage = zero_stage, .page_bytes = 4096, .prefetch_steps = 4};
    if (offload) options.device_bytes = plan_testing::LeastDeviceBytes(graph_, facts, options);
    plan_ = MakePlan(graph_, facts, options).value();
    APTM_CHECK(VerifyPlan(graph_, plan_).ok());
  }

  void Play() {
    LocalWorld world(1);
    const auto communicator = world.Create(0);
    const auto device = MakeHostArena(TierKind::kDevice, plan_.arena_bytes[0]).value();
    const auto host = MakeHostArena(TierKind::kHost, plan_.arena_bytes[1]).value();
    Lanes lanes;
    const Machine machine{device.get(), host.get(), communicator.get(), &CpuKernels(), &lanes};
    const auto executor = Executor::Create(graph_, plan_, machine, {}).value();
    for (int64_t step = 0; step < 2; ++step) {
      APTM_CHECK(executor->RunMicroStep(/*accumulate=*/false, step).ok());
      APTM_CHECK(executor->RunMicroStep(/*accumulate=*/true, step).ok());
      APTM_CHECK(executor->RunUpdate(step, {}, [](const StepExchange&) { return UpdateDecision{}; }).ok());
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
  // An update of pages that come from the host and go back there, and the move that brings or takes operand i.
  Step& StagedUpdate() {
    return Find(plan_.update, [&](const Step& s) {
      return s.kind == StepKind::kUpdate && Staged(plan_.update, s.operands[0]) && Staged(plan_.update, s.operands[1]);
    });
  }
  Step& MoveOf(const Place& operand, Lane lane) {
    return Find(plan_.update, [&](const Step& s) {
      return s.kind == StepKind::kMove && s.lane == lane &&
             (lane == Lane::kCopyIn ? s.dst : s.src).region == operand.region;
    });
  }

  Graph graph_;
  Plan plan_;
};

TEST_F(ResidencyTest, AVerifiedPlanPasses) {
  for (int zero_stage = 0; zero_stage <= 3; ++zero_stage) {
    for (bool offload : {false, true}) {
      MakePlanOf(zero_stage, offload);
      Play();
    }
  }
}

using ResidencyDeathTest = ResidencyTest;

TEST_F(ResidencyDeathTest, ACopyInFromAStaleHome) {
  MakePlanOf(3, /*offload=*/true);
  // The second move fetches what the first has fetched to be updated.
  const Step& update = StagedUpdate();
  const Step& first = MoveOf(update.operands[0], Lane::kCopyIn);
  Step& second = MoveOf(update.operands[1], Lane::kCopyIn);
  second.src = first.src;
  second.state_class = first.state_class;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from host");
}

TEST_F(ResidencyDeathTest, ACopyInThatNeverHappened) {
  MakePlanOf(3, /*offload=*/true);
  MoveOf(StagedUpdate().operands[1], Lane::kCopyIn).unit = kNone;
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AnUpdateOfAnotherPage) {
  MakePlanOf(3, /*offload=*/true);
  Step& update = StagedUpdate();
  update.operands[1] = update.operands[2];
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AnUpdateOfAnotherHome) {
  MakePlanOf(0, /*offload=*/false);
  Step& update = Find(plan_.update, [](const Step& s) { return s.kind == StepKind::kUpdate; });
  update.operands[3] = update.operands[2];
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, ACopyOutOfAnotherPage) {
  MakePlanOf(3, /*offload=*/true);
  const Step& update = StagedUpdate();
  MoveOf(update.operands[1], Lane::kCopyOut).src = update.operands[2];
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AGatherOfAnotherSlice) {
  MakePlanOf(1, /*offload=*/true);
  Step& gather = Find(plan_.update, [](const Step& s) {
    return s.kind == StepKind::kGather && s.state_class == StateClass::kParameters;
  });
  gather.src.begin += 4096;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AGatherOfAnotherHome) {
  MakePlanOf(3, /*offload=*/false);
  const auto is_gather = [](const Step& s) { return s.kind == StepKind::kGather; };
  Step& gather = Find(plan_.micro_step, is_gather);
  const auto is_another = [&](const Step& s) { return is_gather(s) && s.src.region != gather.src.region; };
  gather.src.region = Find(plan_.micro_step, is_another).src.region;
  EXPECT_DEATH(Play(), "is newest at device [0-9]+, read from device");
}

TEST_F(ResidencyDeathTest, AReductionIntoGradientsThatNeverCame) {
  MakePlanOf(3, /*offload=*/true);
  Find(plan_.micro_step, [](const Step& s) {
    return s.kind == StepKind::kMove && s.lane == Lane::kCopyIn && s.unit != kNone &&
           s.state_class == StateClass::kGradients;
  }).unit = kNone;
  EXPECT_DEATH(Play(), "is newest at host [0-9]+, read from device");
}

}  // namespace
}  // namespace angel_ptm
