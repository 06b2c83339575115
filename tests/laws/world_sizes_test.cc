// The same global batch on 1, 2, 3, 4 and 8 ranks: sums are taken in another order, so results agree within rounding,
// not bit for bit. A world that does not divide the batch is padded with micro-batches that weigh nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/data/test_support.h"
#include "tests/laws/tiny_run.h"

namespace angel_ptm {
namespace {

constexpr int kMicroBatches = 8;
constexpr int kSteps = 3;

// Measured on AVX-512: the loss of step 0 is a double sum of equal floats, so it is equal; its norm, from fp32
// gradients summed in another order, differs by up to 4e-9 relative; three steps of AdamW amplify that to 1.2e-7 (loss)
// and 4.1e-7 (norm). The bounds leave a factor of at least ten.
constexpr double kFirstLossTolerance = 1e-12;
constexpr double kFirstNormTolerance = 1e-7;
constexpr double kLossTolerance = 2e-6;
constexpr double kNormTolerance = 1e-5;

double RelativeDifference(double a, double b) { return std::fabs(a - b) / std::fabs(b); }

struct Disagreement {
  double first_loss = 0, first_norm = 0, loss = 0, norm = 0;
  bool Tolerable() const {
    return first_loss <= kFirstLossTolerance && first_norm <= kFirstNormTolerance && loss <= kLossTolerance &&
           norm <= kNormTolerance;
  }
};

Disagreement Compare(const TinyResult& a, const TinyResult& b) {
  Disagreement d;
  d.first_loss = RelativeDifference(a.losses[0], b.losses[0]);
  d.first_norm = RelativeDifference(a.norms[0], b.norms[0]);
  for (size_t i = 0; i < b.losses.size(); ++i) {
    d.loss = std::max(d.loss, RelativeDifference(a.losses[i], b.losses[i]));
    d.norm = std::max(d.norm, RelativeDifference(a.norms[i], b.norms[i]));
  }
  return d;
}

TinyRun RunOn(bool moe, int world) {
  TinyRun run{.shape = moe ? TinyMoe() : TinyDense(), .zero_stage = world % 4, .steps = kSteps};
  run.shape.num_hidden_layers = 2;
  run.batch.rows = 1;
  run.global_micro_batches = kMicroBatches;
  run.accumulation = (kMicroBatches + world - 1) / world;
  return run;
}

TinyResult TrainOn(const TinyRun& run, int world) {
  auto result = TrainLocally(run, world);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : TinyResult{};
}

class WorldSizesTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { alone_ = TrainOn(RunOn(GetParam(), 1), 1); }

  TinyResult alone_;
};

TEST_P(WorldSizesTest, AgreeWithinRounding) {
  for (int world : {2, 3, 4, 8}) {
    const Disagreement d = Compare(TrainOn(RunOn(GetParam(), world), world), alone_);
    EXPECT_TRUE(d.Tolerable()) << world << " ranks";
    std::printf("  %d ranks against 1: step 0 loss %.1e, norm %.1e; all steps loss %.1e, norm %.1e\n", world,
                d.first_loss, d.first_norm, d.loss, d.norm);
  }
}

// Law 3: saved on N ranks, continued on M.
TEST_P(WorldSizesTest, ContinueOnAnotherNumberOfRanks) {
  for (const auto& [before, after] : {std::pair(2, 3), std::pair(4, 1), std::pair(1, 8)}) {
    const TemporaryFolder folder;
    TinyRun first = RunOn(GetParam(), before);
    first.steps = 1;
    first.save_directory = folder.path();
    const TinyResult saved = TrainOn(first, before);
    TinyRun second = RunOn(GetParam(), after);
    second.first_step = 1;
    second.load_checkpoint = saved.checkpoint;
    TinyResult result = TrainOn(second, after);
    result.losses.insert(result.losses.begin(), saved.losses.begin(), saved.losses.end());
    result.norms.insert(result.norms.begin(), saved.norms.begin(), saved.norms.end());
    ASSERT_EQ(result.losses.size(), alone_.losses.size());
    const Disagreement d = Compare(result, alone_);
    EXPECT_TRUE(d.Tolerable()) << before << " then " << after << " ranks";
    std::printf("  %d then %d ranks against 1: all steps loss %.1e, norm %.1e\n", before, after, d.loss, d.norm);
  }
}

// The tolerances mean something: faults in what is fed exceed them.
TEST_P(WorldSizesTest, FaultsAreNotRounding) {
  const std::vector<std::pair<std::string, std::function<int(int64_t, int)>>> faults = {
      {"a dropped micro-batch", [](int64_t step, int n) { return step == 1 && n == 7 ? kMicroBatches : n; }},
      {"a repeated micro-batch", [](int64_t step, int n) { return step == 1 && n == 7 ? 6 : n; }},
      {"padding that weighs", [](int64_t, int n) { return n == kMicroBatches ? 0 : n; }},
      {"a step fed again", [](int64_t step, int n) { return step == 2 ? n - kMicroBatches : n; }},
  };
  for (const auto& [name, feed] : faults) {
    TinyRun run = RunOn(GetParam(), 3);
    run.feed = feed;
    EXPECT_FALSE(Compare(TrainOn(run, 3), alone_).Tolerable()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, WorldSizesTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Moe" : "Dense"; });

}  // namespace
}  // namespace angel_ptm
