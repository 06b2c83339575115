// A step whose gradient is not finite changes no bit of a weight or a moment on any rank, wherever the number came from
// and wherever the state rests.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/laws/tiny_run.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

constexpr int kWorldSize = 2;

// Puts `value` into rank 1's slice of the last unit's gradient at `step`, for the second micro-batch to add to.
TinyRun WithGradient(TinyRun run, float value, int64_t step) {
  run.tamper = [=](const Graph& graph, const Layout& layout, const Machine& machine, int64_t at, int micro) {
    if (machine.communicator->rank() != 1 || at != step || micro != 0) return;
    for (const StateView& view : StateViews(layout, machine)) {
      if (view.unit + 1 < static_cast<UnitId>(graph.units().size())) continue;
      if (view.state == kGradientState) view.own_slice().back() = value;
    }
  };
  return run;
}

TEST(SkippedStepTest, NoBitChanges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int stage : FewerIfSanitized(2, {3, 0, 1, 2})) {
    for (int percent : FewerIfSanitized(1, {35, 100})) {
      TinyRun run{.zero_stage = stage, .accumulation = 2, .steps = 1};
      run.device_bytes = DeviceBudget(run, kWorldSize, percent);
      const auto before = TrainLocally(run, kWorldSize);
      ASSERT_TRUE(before.ok()) << before.status();
      run.steps = 2;
      for (float value : FewerIfSanitized(1, {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()})) {
        SCOPED_TRACE(testing::Message() << "stage " << stage << ", budget " << percent << " %, " << value);
        const auto after = TrainLocally(WithGradient(run, value, 1), kWorldSize);
        ASSERT_TRUE(after.ok()) << after.status();
        EXPECT_FALSE(std::isfinite(after->norms[1]));
        EXPECT_EQ(after->parameters, before->parameters);
        EXPECT_EQ(after->moments, before->moments);
      }
      // Control: a finite gradient does change the weights, so the comparison can fail.
      const auto updated = TrainLocally(WithGradient(run, 1.0f, 1), kWorldSize);
      ASSERT_TRUE(updated.ok()) << updated.status();
      EXPECT_NE(updated->parameters, before->parameters);
      EXPECT_NE(updated->moments, before->moments);
    }
  }
}

}  // namespace
}  // namespace angel_ptm
