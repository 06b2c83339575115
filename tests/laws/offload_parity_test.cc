// Law 1: at fixed numerics the loss, the gradient norm and the weights are bit-identical for any ZeRO stage, page size,
// device budget, prefetch depth and recomputation choice. All pairs of axes here; tests/laws/full runs the whole
// matrix.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/laws/tiny_run.h"

namespace angel_ptm {
namespace {

struct Axes {
  int zero_stage;
  int64_t page_bytes;
  int budget_percent;  // of the unconstrained arena
  bool recompute;
  int prefetch_steps;
};

void PrintTo(const Axes& a, std::ostream* os) {
  *os << "zero " << a.zero_stage << ", page " << a.page_bytes << ", budget " << a.budget_percent << " %, recompute "
      << a.recompute << ", prefetch " << a.prefetch_steps;
}

// Covers every pair of values of any two axes (checked by AllPairsTest).
std::vector<Axes> AllPairs() {
  const int64_t pages[] = {4096, 16384, int64_t{4} << 20};
  const int budgets[] = {100, 60, 35};
  std::vector<Axes> cases;
  for (int zero = 0; zero < 4; ++zero) {
    for (int p = 0; p < 3; ++p) {
      for (int b = 0; b < 3; ++b) {
        cases.push_back({zero, pages[p], budgets[b], (zero + p + b) % 2 == 1, (p + b) % 3 * 3});
      }
    }
  }
  return cases;
}

class OffloadParityTest : public testing::TestWithParam<std::tuple<bool, int, int>> {};

TEST_P(OffloadParityTest, SameBitsHowever) {
  const auto [moe, world, accumulation] = GetParam();
  TinyRun run{.shape = moe ? TinyMoe() : TinyDense(), .accumulation = accumulation, .steps = 2};
  const auto reference = TrainLocally(run, world);
  ASSERT_TRUE(reference.ok()) << reference.status();
  for (const Axes& axes : AllPairs()) {
    SCOPED_TRACE(testing::PrintToString(axes));
    TinyRun other = run;
    other.zero_stage = axes.zero_stage;
    other.page_bytes = axes.page_bytes;
    other.prefetch_steps = axes.prefetch_steps;
    const int64_t unconstrained = UnconstrainedDeviceBytes(other, world);
    other.recompute = axes.recompute;
    other.device_bytes = unconstrained * axes.budget_percent / 100;
    const auto result = TrainLocally(other, world);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->Difference(*reference), "");
    EXPECT_LE(result->device_arena_bytes, other.device_bytes);
    // Recomputation alone may save enough at 60 %.
    const bool must_move = axes.budget_percent < 60 || (axes.budget_percent < 100 && !axes.recompute);
    if (must_move) {
      EXPECT_GT(result->moves, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OffloadParityTest,
                         testing::Combine(testing::Bool(), testing::Values(1, 2, 3), testing::Values(1, 4)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Moe" : "Dense") + "World" +
                                  std::to_string(std::get<1>(test.param)) + "Accumulation" +
                                  std::to_string(std::get<2>(test.param));
                         });

}  // namespace
}  // namespace angel_ptm
