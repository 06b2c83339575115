// Law 1: at fixed numerics the loss, the gradient norm and the weights are bit-identical for any ZeRO stage, page size,
// device budget, prefetch depth, recomputation choice and transport, fresh or resumed. All pairs of axes here;
// tests/laws/full runs the whole matrix.
#include <gtest/gtest.h>

#include "tests/laws/axes.h"
#include "tests/laws/law_worlds.h"

namespace angel_ptm {
namespace {

class OffloadParityTest : public testing::TestWithParam<LawWorld> {};

TEST_P(OffloadParityTest, SameBitsForAllPairsOfAxes) {
  RunInWorld(GetParam(), [](ParityMatrix& matrix) {
    for (const Axes& axes : AllPairs()) {
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
