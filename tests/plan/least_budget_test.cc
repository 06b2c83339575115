// The least device budget that a refusal names is exact: it works, as does every larger one, and one page less is
// refused with the same number.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using plan_testing::FactsFor;
using plan_testing::LeastDeviceBytes;

class RandomCase {
 public:
  explicit RandomCase(uint32_t seed) : random_(seed) {
    const bool moe = Pick({0, 1}) == 1;
    HunyuanLmShape shape = plan_testing::SmallShape(Pick({1, 2, 3, 5, 9}), moe);
    shape.vocab_size = Pick({96, 512, 1024});
    shape.hidden_size = Pick({32, 64, 128});
    shape.intermediate_size = Pick({48, 96, 256});
    shape.head_dim = Pick({8, 16, 64});
    shape.tie_word_embeddings = Pick({0, 1}) == 1;
    if (moe) shape.num_experts = Pick({2, 4, 16});
    const HunyuanLmBatch batch{.rows = Pick({1, 2, 3}),
                               .sequence = Pick({16, 64, 256}),
                               .lm_head_chunk_tokens = Pick({16, 64}),
                               .expert_block_rows = Pick({4, 16})};
    graph = plan_testing::TrainingGraph(shape, batch, Pick({0, 1}) == 1);
    facts = FactsFor(graph);
    options = {.world_size = static_cast<int>(Pick({1, 2, 3, 16, 100})),
               .zero_stage = static_cast<int>(Pick({0, 1, 2, 3})),
               .page_bytes = Pick({4 << 10, 64 << 10, 4 << 20}),
               .prefetch_steps = static_cast<int>(Pick({0, 2, 8, 1 << 16}))};
    text = absl::StrCat(moe ? "moe" : "dense", ", ", shape.num_hidden_layers, " layers, hidden ", shape.hidden_size,
                        ", vocabulary ", shape.vocab_size, ", world ", options.world_size, ", stage ",
                        options.zero_stage, ", pages of ", options.page_bytes, ", prefetch ", options.prefetch_steps);
  }

  int64_t Pick(std::initializer_list<int64_t> values) { return values.begin()[random_() % values.size()]; }

  Graph graph;
  BackendFacts facts;
  PlanOptions options;
  std::string text;

 private:
  std::mt19937 random_;
};

class LeastBudget : public ::testing::TestWithParam<uint32_t> {};

TEST_P(LeastBudget, WorksAndAPageLessIsRefused) {
  RandomCase c(GetParam());
  SCOPED_TRACE(c.text);
  const int64_t least = LeastDeviceBytes(c.graph, c.facts, c.options);
  for (const int64_t more : {int64_t{0}, int64_t{4096}, least / 50, least / 4, 2 * least}) {
    c.options.device_bytes = least + more;
    const absl::StatusOr<Plan> plan = MakePlan(c.graph, c.facts, c.options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_LE(plan->arena_bytes[static_cast<int>(TierKind::kDevice)], c.options.device_bytes);
    const absl::Status verified = VerifyPlan(c.graph, *plan);
    EXPECT_TRUE(verified.ok()) << "with " << more << " more: " << verified;
    // With nearly everything away from the device only few buffers are left there, so holes may cost a little more than
    // in a plan with room.
    EXPECT_LE(PackingLoss(*plan, TierKind::kDevice), more == 0 ? 0.08 : 1);
  }
  for (const int64_t less : {int64_t{4096}, least / 3}) {
    c.options.device_bytes = std::max<int64_t>(1, least - less);
    int64_t named = 0;
    const absl::Status refused = MakePlan(c.graph, c.facts, c.options, nullptr, &named).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << "with " << less << " less: " << refused;
    EXPECT_EQ(named, least);
  }
}

// The least host budget, too, is exact, with a file for state and activations and the least device budget.
TEST_P(LeastBudget, WorksWithTheHostsLeast) {
  RandomCase c(GetParam());
  SCOPED_TRACE(c.text);
  c.options.file_bytes = int64_t{1} << 40;
  c.options.device_bytes = LeastDeviceBytes(c.graph, c.facts, c.options);
  const int64_t least = plan_testing::LeastHostBytes(c.graph, c.facts, c.options);
  for (const int64_t more : {int64_t{0}, least / 3}) {
    c.options.host_bytes = least + more;
    const absl::StatusOr<Plan> plan = MakePlan(c.graph, c.facts, c.options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const absl::Status verified = VerifyPlan(c.graph, *plan);
    EXPECT_TRUE(verified.ok()) << "with " << more << " more: " << verified;
  }
  c.options.host_bytes = least - 4096;
  EXPECT_EQ(plan_testing::LeastThatWorks(c.graph, c.facts, c.options), least);
}

INSTANTIATE_TEST_SUITE_P(RandomShapes, LeastBudget, ::testing::Range(1u, kSanitized ? 5u : 17u));

}  // namespace
}  // namespace angel_ptm
