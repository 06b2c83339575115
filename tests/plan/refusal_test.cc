// The messages that users with too small a budget read: what needs how much, how much there is, and the least that
// works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class Refusal : public ::testing::Test {
 protected:
  Refusal()
      : graph_(plan_testing::TrainingGraph(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, false)),
        facts_(plan_testing::FactsFor(graph_)),
        options_{.world_size = 2, .page_bytes = 64 << 10},
        least_(plan_testing::LeastDeviceBytes(graph_, facts_, options_)) {
    const absl::StatusOr<Plan> roomy = MakePlan(graph_, facts_, options_);
    roomy_ = *roomy;
    for (const MemoryRange& range : roomy_.fixed) fixed_bytes_ += (range.bytes + 255) / 256 * 256;
  }

  std::string MessageAt(int64_t device_bytes, const Layout* layout = nullptr) {
    options_.device_bytes = device_bytes;
    const absl::Status status = MakePlan(graph_, facts_, options_, layout).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    return std::string(status.message());
  }

  const Graph graph_;
  const BackendFacts facts_;
  PlanOptions options_;
  const int64_t least_;
  Plan roomy_;  // without a budget
  int64_t fixed_bytes_ = 0;
};

TEST_F(Refusal, NamesTheTensorThatIsComputed) {
  const int64_t device_bytes = least_ / 2;
  EXPECT_THAT(MessageAt(device_bytes),
              AllOf(HasSubstr("; computing layers.0.mlp.experts.gate_up.c (GroupedMatmul) needs 568 KiB"),
                    EndsWith(absl::StrCat(FormatBytes(device_bytes - fixed_bytes_), " are left for it"))));
}

TEST_F(Refusal, NamesTheUnitThatIsUpdated) {
  Segment update = BuildUpdate(graph_, roomy_.layout, roomy_.fixed);
  update.regions.push_back({.label = "too large", .range = {TierKind::kDevice, -1, 4096}});
  const auto step =
      std::find_if(update.steps.begin(), update.steps.end(), [](const Step& s) { return s.kind == StepKind::kUpdate; });
  step->scratch = {static_cast<int32_t>(update.regions.size()) - 1, 0, 4096};
  const absl::Status status = OffloadActivations(graph_, update, TierKind::kDevice, 1024, options_.page_bytes);
  EXPECT_EQ(status.message(), absl::StrCat("update of unit ", graph_.units()[step->unit].name,
                                           " needs 4.00 KiB of device memory at once, 1.00 KiB are left for it"));
}

// Holes come and go with the budget. A larger budget is not refused because its plan happens to have more of them.
TEST_F(Refusal, IsNeverAboveTheLeastThatWorks) {
  for (int per_mille = 0; per_mille < 200; per_mille += kSanitized ? 25 : 5) {
    options_.device_bytes = least_ + least_ * per_mille / 1000;
    SCOPED_TRACE(absl::StrCat("device_bytes ", options_.device_bytes, ", least ", least_));
    const absl::StatusOr<Plan> plan = MakePlan(graph_, facts_, options_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_LE(plan->arena_bytes[static_cast<int>(TierKind::kDevice)], options_.device_bytes);
    const absl::Status verified = VerifyPlan(graph_, *plan);
    EXPECT_TRUE(verified.ok()) << verified;
  }
}

// The planner refuses page sizes with more page moves than memory can hold, instead of ending in bad_alloc.
TEST_F(Refusal, NamesThePageSizeThatKeepsThePlanSmall) {
  HunyuanLmShape shape = plan_testing::SmallShape(2, false);
  shape.hidden_size = 4096;
  shape.intermediate_size = 64 << 10;
  const Graph graph = plan_testing::TrainingGraph(shape, plan_testing::kSmallBatch, false);
  const PlanOptions options{.page_bytes = 4096, .device_bytes = int64_t{8} << 30};
  const absl::Status refused = MakePlan(graph, plan_testing::FactsFor(graph), options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("set memory.page_bytes=16384 or more"));
}

TEST_F(Refusal, TellsHomesFromInputsAndOutputs) {
  EXPECT_THAT(MessageAt(1),
              EndsWith(absl::StrCat("; homes take 0 B of device memory and inputs, outputs and caches take ",
                                    FormatBytes(fixed_bytes_))));
  const int64_t home_bytes = roomy_.layout.home_bytes[static_cast<int>(TierKind::kDevice)];
  EXPECT_THAT(
      MessageAt(home_bytes, &roomy_.layout),
      EndsWith(absl::StrCat("; homes take ", FormatBytes(home_bytes),
                            " of device memory and inputs, outputs and caches take ", FormatBytes(fixed_bytes_))));
}

}  // namespace
}  // namespace angel_ptm
