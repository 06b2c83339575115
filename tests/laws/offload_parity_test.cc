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

// A world trains every `step`-th of the pairs from `first` on. With sanitizers worlds of even and of odd size share
// them, and those of MPI of one size once more by transport.
struct Share {
  size_t first = 0, step = 1;
};
Share ShareOf(const LawWorld& world) {
  if (!kSanitized) return {};
  const size_t odd = static_cast<size_t>(world.size) % 2;
  if (world.transport == "local") return {.first = odd, .step = 2};
  return {.first = 2 * odd + (world.transport == "messages" ? 1 : 0), .step = 4};
}

class OffloadParityTest : public testing::TestWithParam<LawWorld> {};

TEST_P(OffloadParityTest, SameBitsForAllPairsOfAxes) {
  RunInWorld(GetParam(), [share = ShareOf(GetParam())](ParityMatrix& matrix) {
    const std::vector<Axes> pairs = AllPairs();
    for (size_t i = share.first; i < pairs.size(); i += share.step) {
      const Axes& axes = pairs[i];
      SCOPED_TRACE(testing::PrintToString(axes));
      EXPECT_EQ(matrix.Check(axes), absl::OkStatus());
    }
    EXPECT_GT(matrix.counts().moved, 0);
    EXPECT_GT(matrix.counts().to_join, 0);
    EXPECT_EQ(matrix.counts().joined, matrix.counts().to_join);
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, OffloadParityTest, testing::ValuesIn(LawWorlds()),
                         [](const auto& test) { return testing::PrintToString(test.param); });

}  // namespace
}  // namespace angel_ptm
