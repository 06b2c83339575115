// Law 1 over every combination of axes (tests/laws/full runs it). Prints how many cases there were and how many of them
// moved pages; stops at the tenth difference.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "tests/laws/axes.h"
#include "tests/laws/law_worlds.h"

namespace angel_ptm {
namespace {

class FullMatrixTest : public testing::TestWithParam<LawWorld> {};

TEST_P(FullMatrixTest, SameBits) {
  const auto begin = std::chrono::steady_clock::now();
  int64_t differences = 0;
  RunInWorld(GetParam(), [&](ParityMatrix& matrix) {
    for (const Axes& axes : FullMatrix()) {
      if (GetParam().expert_degree > 1 && !axes.moe) continue;  // as without
      const absl::Status status = matrix.Check(axes);
      EXPECT_EQ(status, absl::OkStatus()) << axes;
      if (!status.ok() && ++differences == 10) break;
      if (matrix.compares() && matrix.counts().cases % 576 == 0) {
        std::printf("  %lld cases\n", static_cast<long long>(matrix.counts().cases));
        std::fflush(stdout);
      }
    }
    if (!matrix.compares()) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const ParityMatrix::Counts& counts = matrix.counts();
    std::printf(
        "%s, %d ranks%s: %lld cases, %lld of them moved pages, %lld of %lld had room to join, %lld differ; %.0f s\n",
        GetParam().transport.c_str(), GetParam().size,
        absl::StrCat(GetParam().ranks_per_node > 0 ? " in nodes" : "",
                     GetParam().expert_degree > 1 ? ", experts split" : "")
            .c_str(),
        static_cast<long long>(counts.cases), static_cast<long long>(counts.moved),
        static_cast<long long>(counts.joined), static_cast<long long>(counts.to_join),
        static_cast<long long>(differences), seconds);
    EXPECT_GT(counts.joined, counts.to_join * 9 / 10);
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, FullMatrixTest, testing::ValuesIn(LawWorlds()),
                         [](const auto& test) { return testing::PrintToString(test.param); });

}  // namespace
}  // namespace angel_ptm
