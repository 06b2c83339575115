// Law 1: at fixed numerics the loss, the gradient norm and the weights are bit-identical for any ZeRO stage, page size,
// device budget, prefetch depth, recomputation choice and transport, fresh or resumed. All pairs of axes here;
// tests/laws/full runs the whole matrix.
#include <gtest/gtest.h>

#include <vector>

#include "tests/laws/axes.h"
#include "tests/laws/law_worlds.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

// A world trains every `step`-th pair from `first` on. Most worlds train all pairs; where experts are split, those of
// MoE. Of four and of eight ranks, which are many for few cores, each transport trains one half. With sanitizers, the
// three worlds of threads share the pairs. So do the MPI worlds, by whether their size is even or odd and then by
// transport.
struct Share {
  size_t first = 0, step = 1;
};
Share ShareOf(const LawWorld& world) {
  const auto size = static_cast<size_t>(world.size);
  const size_t messages = world.transport == "messages" ? 1 : 0;
  if (kSanitized) {
    return world.transport == "local" ? Share{.first = size % 3, .step = 3}
                                      : Share{.first = 2 * (size % 2) + messages, .step = 4};
  }
  if (world.size < 4 || world.expert_degree > 1) return {};
  return {.first = world.size == 4 ? messages : 1 - messages, .step = 2};
}

class OffloadParityTest : public testing::TestWithParam<LawWorld> {};

TEST_P(OffloadParityTest, SameBitsForAllPairsOfAxes) {
  RunInWorld(GetParam(), [share = ShareOf(GetParam())](ParityMatrix& matrix) {
    const std::vector<Axes> pairs = AllPairs();
    for (size_t i = share.first; i < pairs.size(); i += share.step) {
      const Axes& axes = pairs[i];
      if (GetParam().expert_degree > 1 && !axes.moe) continue;  // as without
      SCOPED_TRACE(testing::PrintToString(axes));
      EXPECT_EQ(matrix.Check(axes), absl::OkStatus());
    }
    EXPECT_GT(matrix.counts().moved, 0);
    EXPECT_GT(matrix.counts().to_join, 0);
    EXPECT_EQ(matrix.counts().joined, matrix.counts().to_join);
  });
}

// The update and the next micro-step each fit the budget with full prefetching, but the two joined do not.
TEST_P(OffloadParityTest, JoinsThoughLessComesEarly) {
  if (GetParam().size != 3) GTEST_SKIP() << "such a budget is known for three ranks";
  RunInWorld(GetParam(), [](ParityMatrix& matrix) {
    EXPECT_EQ(matrix.Check({.zero_stage = 1, .budget_percent = 60, .prefetch_steps = 6, .joined = true}),
              absl::OkStatus());
    EXPECT_EQ(matrix.counts().joined, 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, OffloadParityTest, testing::ValuesIn(LawWorlds()),
                         [](const auto& test) { return testing::PrintToString(test.param); });

}  // namespace
}  // namespace angel_ptm
