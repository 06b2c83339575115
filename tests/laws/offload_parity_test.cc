// Law 1: at fixed numerics the loss, the gradient norm and the weights are bit-identical for any ZeRO stage, page size,
// device budget, prefetch depth, recomputation choice and transport, fresh or resumed. All pairs of axes here;
// tests/laws/full runs the whole matrix.
#include <gtest/gtest.h>

#include <vector>

#include "tests/laws/axes.h"
#include "tests/laws/law_worlds.h"

namespace angel_ptm {
namespace {

// Under a sanitizer worlds of even and of odd size share the pairs: what it finds is in what one case does, and the
// bits of every case in every world are compared by the uninstrumented build.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kShares = 2;
#else
constexpr size_t kShares = 1;
#endif

class OffloadParityTest : public testing::TestWithParam<LawWorld> {};

TEST_P(OffloadParityTest, SameBitsForAllPairsOfAxes) {
  RunInWorld(GetParam(), [size = GetParam().size](ParityMatrix& matrix) {
    const std::vector<Axes> pairs = AllPairs();
    for (size_t i = static_cast<size_t>(size) % kShares; i < pairs.size(); i += kShares) {
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
