#include "angel_ptm/plan/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class PlanText : public ::testing::Test {
 protected:
  PlanText() : graph_(plan_testing::TrainingGraph(plan_testing::SmallShape(2, true), plan_testing::kSmallBatch, true)) {
    const BackendFacts facts = plan_testing::FactsFor(graph_);
    PlanOptions options{.world_size = 2, .zero_stage = 3, .page_bytes = 64 << 10};
    roomy_ = *MakePlan(graph_, facts, options);
    options.device_bytes = roomy_.arena_bytes[0] / 2;
    tight_ = *MakePlan(graph_, facts, options);
  }
  const Graph graph_;
  Plan roomy_, tight_;
};

TEST_F(PlanText, MemoryTableListsWhatEachTierHolds) {
  const std::string table = MemoryTable(tight_);
  for (int c = 0; c < kMemoryClassCount; ++c) {
    const bool occurs = tight_.peaks[0].by_class[c] + tight_.peaks[1].by_class[c] > 0;
    if (occurs) {
      EXPECT_THAT(table, HasSubstr(absl::StrCat("\n", Name(static_cast<MemoryClass>(c)), " ")));
    }
  }
  EXPECT_THAT(table, HasSubstr(FormatBytes(tight_.arena_bytes[0])));
  EXPECT_THAT(table, HasSubstr(FormatBytes(tight_.arena_bytes[1])));
  // One column per tier, and all lines have the same length.
  const size_t width = table.find('\n') + 1;
  EXPECT_EQ(table.size() % width, 0u);
  for (size_t at = width - 1; at < table.size(); at += width) EXPECT_EQ(table[at], '\n');
}

TEST_F(PlanText, SummaryCountsStepsAndCollectives) {
  const std::string roomy = PlanSummary(graph_, roomy_), tight = PlanSummary(graph_, tight_);
  EXPECT_THAT(roomy, Not(HasSubstr(" move")));
  EXPECT_THAT(tight, HasSubstr(" move"));
  const std::vector<Step>& steps = tight_.segments[kMicroStepSegment].steps;
  const auto gathers =
      std::count_if(steps.begin(), steps.end(), [](const Step& s) { return s.kind == StepKind::kAllGather; });
  EXPECT_THAT(tight, HasSubstr(absl::StrCat(gathers, " times all-gather parameters")));
  EXPECT_THAT(tight, HasSubstr(absl::StrCat(graph_.units().size(), " times reduce-scatter gradients")));
  EXPECT_THAT(tight, HasSubstr(absl::StrCat("micro-step: ", steps.size(), " steps")));
  EXPECT_THAT(tight, HasSubstr("packing loss"));
  EXPECT_THAT(tight, HasSubstr("program step: micro-step for each micro-batch, update once\n"));
}

TEST_F(PlanText, ListingHasALinePerStep) {
  const std::string listing = PlanListing(graph_, tight_);
  const size_t lines = static_cast<size_t>(std::count(listing.begin(), listing.end(), '\n'));
  size_t steps = 0;
  for (const Segment& segment : tight_.segments) steps += segment.steps.size();
  EXPECT_EQ(lines, steps + tight_.segments.size());
  EXPECT_THAT(listing, HasSubstr("comm         all-gather     embedding parameters"));
  EXPECT_THAT(listing, HasSubstr("compute      compute        backward RouterGrad"));
  EXPECT_THAT(listing, HasSubstr("copy-in      move"));
  EXPECT_THAT(listing, HasSubstr(" after "));
  // Parameters whose home is on the host are copied to the rank's own slice of the gathered vector, wherever that lies.
  EXPECT_THAT(listing,
              ContainsRegex("move .* parameters own elements 0\\+.* -> device\\[[0-9]+\\+[0-9]+\\*rank\\+[0-9]+\\]"));
}

TEST_F(PlanText, PackingLossIsAShare) {
  for (const Plan* plan : {&roomy_, &tight_}) {
    for (TierKind tier : {TierKind::kDevice, TierKind::kHost}) {
      EXPECT_GE(PackingLoss(*plan, tier), 0);
      EXPECT_LT(PackingLoss(*plan, tier), 0.1);
    }
  }
  EXPECT_EQ(PackingLoss(Plan(), TierKind::kHost), 0);
}

}  // namespace
}  // namespace angel_ptm
