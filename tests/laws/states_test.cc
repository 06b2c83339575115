// Law 1 for state that only some runs have: an average of the weights, and units that are not trained.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "tests/laws/tiny_run.h"
#include "tests/support/sanitized.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

// Expects the bits of the plain run at every stage and budget, in worlds of one and two ranks, joined or not.
void ExpectSameBits(TinyRun run) {
  for (int world : FewerIfSanitized(1, {2, 1})) {
    run.zero_stage = 0;
    run.device_bytes = 0;
    run.join = false;
    const auto plain = TrainLocally(run, world);
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (int stage : FewerIfSanitized(2, {3, 0, 1, 2})) {
      for (int percent : FewerIfSanitized(2, {35, 100, 60})) {
        SCOPED_TRACE(testing::Message() << world << " ranks, stage " << stage << ", budget " << percent << " %");
        run.zero_stage = stage;
        run.join = stage % 2 == 1;
        run.device_bytes = DeviceBudget(run, world, percent);
        const auto result = TrainLocally(run, world);
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(result->Difference(*plain), "");
        // At the least budget, whether there is room to join depends on the scratch memory of this processor's kernels.
        EXPECT_TRUE(result->joined == run.join || (run.join && percent < 60));
      }
    }
  }
}

TEST(EmaTest, SameBitsWhereverItRests) { ExpectSameBits({.accumulation = 2, .ema_decay = 0.9}); }

TEST(EmaTest, OfTheMasterCopySameBitsWhereverItRests) {
  ExpectSameBits({.compute = DType::kBFloat16, .accumulation = 2, .ema_decay = 0.9});
}

// Parameters are the master copy rounded, at the start and after every update.
TEST(MasterTest, ParametersAreWhatItRoundsTo) {
  for (const int steps : {0, 2}) {
    const TinyRun run{.compute = DType::kBFloat16, .zero_stage = 3, .steps = steps};
    const auto result = TrainLocally(run, 2);
    ASSERT_TRUE(result.ok()) << result.status();
    int64_t rounded = 0;
    for (size_t u = 0; u < result->parameters.size(); ++u) {
      const std::vector<float>& parameters = result->parameters[u];
      const float* master = result->moments[u].data() + 2 * parameters.size();
      ASSERT_EQ(result->moments[u].size(), 3 * parameters.size());
      for (size_t i = 0; i < parameters.size(); ++i) {
        ASSERT_EQ(parameters[i], ToFloat(ToBFloat16(master[i]))) << u << " " << i;
        rounded += parameters[i] != master[i] ? 1 : 0;
      }
    }
    EXPECT_GT(rounded, 0);
  }
}

// The average after two steps is what the formula gives from the weights after each step.
TEST(EmaTest, IsTheAverageOfTheWeightsBehindEachUpdate) {
  TinyRun run{.zero_stage = 3, .ema_decay = 0.05};  // below the warm-up's t / (t + 9): in force from the first update
  std::vector<TinyResult> after;
  for (int steps : {0, 1, 2}) {
    run.steps = steps;
    const auto result = TrainLocally(run, 1);
    ASSERT_TRUE(result.ok()) << result.status();
    after.push_back(*result);
  }
  const Graph graph = TinyGraph(run);
  for (size_t u = 0; u < graph.units().size(); ++u) {
    const size_t n = after[0].parameters[u].size();
    ASSERT_EQ(after[2].moments[u].size(), 3 * n);
    for (size_t i = 0; i < n; i += 7) {
      const double p0 = static_cast<double>(after[0].parameters[u][i]);
      const double p1 = static_cast<double>(after[1].parameters[u][i]);
      const double p2 = static_cast<double>(after[2].parameters[u][i]);
      const double want = 0.05 * (0.05 * p0 + 0.95 * p1) + 0.95 * p2;
      ASSERT_NEAR(static_cast<double>(after[2].moments[u][2 * n + i]), want, 1e-6) << graph.units()[u].name << " " << i;
    }
  }
}

TEST(EmaTest, ItsDecayWarmsUp) {
  EXPECT_DOUBLE_EQ(EmaRate(0.999, 1), 0.9);
  EXPECT_DOUBLE_EQ(EmaRate(0.999, 91), 1 - 0.91);
  EXPECT_DOUBLE_EQ(EmaRate(0.999, 1'000'000), 1 - 0.999);
}

TinyRun Frozen() {
  TinyRun run{.accumulation = 2};
  run.shape.num_hidden_layers = 2;
  run.shape.freeze = {"embedding", "layers.0.*"};
  return run;
}

TEST(FrozenTest, SameBitsWhereverItRests) { ExpectSameBits(Frozen()); }

TEST(FrozenTest, InBf16SameBitsWhereverItRests) {
  TinyRun run = Frozen();
  run.compute = DType::kBFloat16;
  ExpectSameBits(run);
}

// Frozen bf16 parameters have no master copy; saving and loading returns the same bits.
TEST(FrozenTest, InBf16ResumesWithTheSameBits) {
  const TemporaryFolder folder;
  TinyRun run = Frozen();
  run.compute = DType::kBFloat16;
  const auto straight = TrainLocally(run, 2);
  TinyRun first = run;
  first.zero_stage = 3;
  first.steps = 1;
  first.save_directory = folder.path();
  const auto before = TrainLocally(first, 2);
  ASSERT_TRUE(straight.ok() && before.ok()) << straight.status() << before.status();
  run.load_checkpoint = before->checkpoint;
  run.first_step = 1;
  auto after = TrainLocally(run, 2);
  ASSERT_TRUE(after.ok()) << after.status();
  after->losses.insert(after->losses.begin(), before->losses.begin(), before->losses.end());
  after->norms.insert(after->norms.begin(), before->norms.begin(), before->norms.end());
  EXPECT_EQ(after->Difference(*straight), "");
}

TEST(FrozenTest, OnlyTheOthersLearn) {
  TinyRun run = Frozen();
  run.zero_stage = 2;
  const auto trained = TrainLocally(run, 2);
  run.steps = 0;
  const auto initial = TrainLocally(run, 2);
  ASSERT_TRUE(trained.ok() && initial.ok()) << trained.status() << initial.status();
  const Graph graph = TinyGraph(run);
  int frozen = 0;
  for (size_t u = 0; u < graph.units().size(); ++u) {
    const Unit& unit = graph.units()[u];
    EXPECT_EQ(unit.trainable, unit.name != "embedding" && unit.name.substr(0, 8) != "layers.0") << unit.name;
    EXPECT_EQ(trained->parameters[u] == initial->parameters[u], !unit.trainable) << unit.name;
    EXPECT_EQ(trained->moments[u].empty(), !unit.trainable) << unit.name;
    frozen += unit.trainable ? 0 : 1;
  }
  EXPECT_EQ(frozen, 3);
}

// A frozen unit has no gradients, moments or reductions, and takes less memory.
TEST(FrozenTest, NothingIsKeptOrSentForIt) {
  const TinyRun run = Frozen();
  TinyRun all = run;
  all.shape.freeze.clear();
  const auto frozen = TrainLocally(run, 2), trained = TrainLocally(all, 2);
  ASSERT_TRUE(frozen.ok() && trained.ok()) << frozen.status() << trained.status();
  int64_t kept = 0, whole = 0;  // of two ranks at stage 0
  const Graph graph = TinyGraph(run);
  for (const Unit& unit : graph.units()) {
    const int64_t bytes = 2 * SliceUnit(unit.elements, 2).slice_elements * SizeOf(DType::kFloat32);
    whole += bytes;
    kept += unit.trainable ? bytes : 0;
  }
  for (StateId s : {kGradientState, kMoment1State, kMoment2State}) {
    EXPECT_EQ(frozen->state_bytes[s], kept);
    EXPECT_EQ(trained->state_bytes[s], whole);
  }
  EXPECT_EQ(frozen->state_bytes[kParameterState], trained->state_bytes[kParameterState]);
  EXPECT_LT(frozen->device_arena_bytes, trained->device_arena_bytes);
}

TEST(FrozenTest, ABitThatIsTrainedAllTheSameIsSeen) {
  TinyRun run = Frozen();
  const auto plain = TrainLocally(run, 1);
  run.tamper = [](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    for (const StateView& view : StateViews(layout, machine)) {
      if (step == 1 && micro == 0 && view.unit == 0 && view.state == kParameterState) view.own_slice()[5] += 1e-3f;
    }
  };
  const auto tampered = TrainLocally(run, 1);
  ASSERT_TRUE(plain.ok() && tampered.ok());
  EXPECT_NE(tampered->Difference(*plain), "");
}

}  // namespace
}  // namespace angel_ptm
