// The largest model of the family on a large cluster: planning and verifying succeed and little memory is lost to
// holes. The tests print how many seconds they take; only ctest's timeout limits it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "tests/model/model_testing.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

class A13BOn1024Ranks : public ::testing::TestWithParam<bool> {};

TEST_P(A13BOn1024Ranks, PlansWithFewHoles) {
  const Graph graph = plan_testing::TrainingGraph(
      model_testing::A13BShape(), {.rows = 1, .sequence = 4096, .lm_head_chunk_tokens = 512, .expert_block_rows = 64},
      GetParam());
  BackendFacts facts = plan_testing::FactsFor(graph);
  for (int64_t& bytes : facts.reduce_scratch_bytes) bytes = 64 << 20;
  PlanOptions options{.world_size = 1024, .zero_stage = 3};
  const auto begin = std::chrono::steady_clock::now();
  const absl::StatusOr<Plan> unconstrained = MakePlan(graph, facts, options);
  ASSERT_TRUE(unconstrained.ok()) << unconstrained.status();
  const int64_t full = unconstrained->arena_bytes[0];
  EXPECT_LE(PackingLoss(*unconstrained, TierKind::kDevice), 0.05);
  options.device_bytes = full * 80 / 100;
  const absl::StatusOr<Plan> tight = MakePlan(graph, facts, options);
  ASSERT_TRUE(tight.ok()) << tight.status();
  EXPECT_LE(PackingLoss(*tight, TierKind::kDevice), 0.05);
  EXPECT_GT(plan_testing::MovesOf(*tight), 0);
  const double planning = Seconds(begin);
  const auto verify_begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(VerifyPlan(graph, *unconstrained).ok());
  EXPECT_TRUE(VerifyPlan(graph, *tight).ok());
  std::printf("%zu steps planned in %.2f s, verified in %.2f s\n", tight->segments[kMicroStepSegment].steps.size(),
              planning, Seconds(verify_begin));
}

INSTANTIATE_TEST_SUITE_P(Recompute, A13BOn1024Ranks, ::testing::Bool());

}  // namespace
}  // namespace angel_ptm
