// Plans of runs with split experts: what a rank stores and exchanges, what VerifyPlan refuses, what exchanges cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "angel_ptm/plan/cost.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/verify.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using plan_testing::kSmallBatch;
using testing::HasSubstr;

constexpr int kWorld = 4, kDegree = 2;
constexpr int64_t kExperts = 4, kWidth = 64;

HunyuanLmShape SplitShape() {
  HunyuanLmShape shape = plan_testing::SmallShape(2, /*moe=*/true);
  shape.intermediate_size = kWidth;
  shape.expert_degree = kDegree;
  return shape;
}

class SplitExpertsTest : public testing::Test {
 protected:
  SplitExpertsTest() : graph_(plan_testing::TrainingGraph(SplitShape(), kSmallBatch, false)) {}

  Plan PlanAt(int stage) const {
    auto plan = MakePlan(graph_, plan_testing::FactsFor(graph_),
                         {.world_size = kWorld, .zero_stage = stage, .expert_degree = kDegree, .page_bytes = 16 << 10});
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *std::move(plan);
  }
  UnitId UnitNamed(const std::string& name) const {
    const auto is_it = [&](const Unit& unit) { return unit.name == name; };
    return static_cast<UnitId>(std::ranges::find_if(graph_.units(), is_it) - graph_.units().begin());
  }
  Step* FindExchange(Segment& segment, OpKind kind) const {
    for (Step& step : segment.steps) {
      if (IsExchange(step) && graph_.ops[step.op].kind == kind) return &step;
    }
    return nullptr;
  }

  const Graph graph_;
};

// A rank stores the experts of its place, or its slice of them, and never those of another place.
TEST_F(SplitExpertsTest, ARankStoresItsPart) {
  const UnitId down = UnitNamed("layers.1.experts.down");
  const int64_t elements = kExperts * kWidth * 64;
  EXPECT_EQ(graph_.units()[down].elements, elements);
  for (int stage = 0; stage <= 3; ++stage) {
    const Plan plan = PlanAt(stage);
    const Layout& layout = plan.layout;
    EXPECT_EQ(VerifyPlan(graph_, plan), absl::OkStatus());
    for (StateId s = 0; s < static_cast<StateId>(graph_.states().size()); ++s) {
      const bool sharded = stage >= graph_.states()[s].sharded_from_stage;
      EXPECT_EQ(layout.home(down, s).elements, elements / (sharded ? kWorld : kDegree)) << stage << " " << s;
      for (int rank = 0; rank < kWorld; ++rank) {
        const int64_t part = elements / kDegree * (rank / 2);
        EXPECT_EQ(layout.home_begin(down, s, rank), sharded ? elements / kWorld * rank : part) << stage << " " << s;
      }
    }
  }
}

// Per layer, for one forward and one backward pass: tokens, weights and choices are sent, and sums come back; then
// gradients of sums are sent, and those of tokens and weights come back.
TEST_F(SplitExpertsTest, ExchangesAreThoseOfTokens) {
  const Plan plan = PlanAt(3);
  const int64_t tokens = kSmallBatch.rows * kSmallBatch.sequence, row = 64 * 4, pair = 2 * 4;
  std::map<std::string, int64_t> bytes;
  int64_t of_units = 0;
  for (const PlannedCollective& c : CollectivesOf(graph_, plan.segments[kMicroStepSegment])) {
    if (c.what.starts_with("layers.0.experts.down ")) of_units += c.bytes;
    if (c.what.find("layers.0.") == std::string::npos || c.what.ends_with(" parameters") ||
        c.what.ends_with(" gradients")) {
      continue;
    }
    bytes[(c.kind == StepKind::kAllGather ? "gather " : "sum ") + c.what] += c.bytes;
  }
  EXPECT_EQ(bytes.size(), 7u);
  EXPECT_EQ(bytes["gather layers.0.mlp.all_tokens.y"], kDegree * tokens * row);
  EXPECT_EQ(bytes["gather layers.0.mlp.all_weights.y"], kDegree * tokens * pair);
  EXPECT_EQ(bytes["gather layers.0.mlp.all_experts.y"], kDegree * tokens * pair);
  EXPECT_EQ(bytes["sum layers.0.mlp.sum.y"], kDegree * tokens * row);
  int64_t gathered = 0, summed = 0;
  for (const auto& [what, n] : bytes) (what.starts_with("gather") ? gathered : summed) += n;
  EXPECT_EQ(gathered, kDegree * tokens * (2 * row + 2 * pair));
  EXPECT_EQ(summed, kDegree * tokens * (2 * row + pair));
  // Half of the experts: the forward and the backward pass gather them, and their gradients are reduced.
  EXPECT_EQ(of_units, 3 * kExperts / kDegree * kWidth * 64 * 4);
}

TEST_F(SplitExpertsTest, VerifyRefusesOtherParts) {
  struct Fault {
    const char* name;
    std::function<void(Plan&)> plant;
    const char* message;
  };
  const UnitId down = UnitNamed("layers.1.experts.down"), dense = UnitNamed("layers.1.dense");
  const std::vector<Fault> faults = {
      {"on the compute lane",
       [&](Plan& p) {
         FindExchange(p.segments[kMicroStepSegment], OpKind::kSumRows)->lane = Lane::kCompute;
         OrderSteps(graph_, p.segments[kMicroStepSegment]);
       },
       "runs on lane compute"},
      {"too few bytes",
       [&](Plan& p) { FindExchange(p.segments[kMicroStepSegment], OpKind::kGatherRows)->operands[1].bytes /= 2; },
       "operand of"},
      {"experts that all have", [&](Plan& p) { p.layout.slices[down].replicas = kWorld; }, "is used by 4 of 4"},
      {"a unit that is no experts'", [&](Plan& p) { p.layout.slices[dense].replicas = 2; }, "is used by 2 of 4"},
      {"another degree", [&](Plan& p) { p.layout.expert_degree = 4; }, "experts are split over 4"},
      {"a degree that does not divide", [&](Plan& p) { p.layout.expert_degree = 3; }, "over 3 places of 4 ranks"},
  };
  for (const Fault& fault : faults) {
    Plan plan = PlanAt(3);
    fault.plant(plan);
    EXPECT_THAT(std::string(VerifyPlan(graph_, plan).message()), HasSubstr(fault.message)) << fault.name;
  }
}

// Ranks of different places are two apart, so nodes of two ranks separate them.
TEST_F(SplitExpertsTest, ExchangesCrossNodesWhereReplicasFillThem) {
  const Plan plan = PlanAt(3);
  const Segment& segment = plan.segments[kMicroStepSegment];
  CostModel model = TypicalHostModel(/*threads=*/1);
  model.device_is_host = false;
  model.launch_seconds = 0;
  model.ranks_per_node = 2;
  model.inside_node = 1 << 12;
  model.between_nodes = 1 << 10;
  model.device_memory = 1e30;
  const std::vector<StepCost> costs = CostsOf(graph_, plan, segment, model, {});
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    const Step& step = segment.steps[i];
    const double bytes = static_cast<double>(ExchangedBytes(step));
    if (IsExchange(step)) {
      // Each of a node's two ranks receives half of it from the other node.
      EXPECT_DOUBLE_EQ(costs[i].seconds, bytes / 2 * 2 / (1 << 10));
    } else if (step.kind == StepKind::kAllGather && graph_.units()[step.unit].is_experts) {
      EXPECT_DOUBLE_EQ(costs[i].seconds, bytes / 2 / (1 << 12));
    }
  }
  model.ranks_per_node = 4;
  const std::vector<StepCost> inside = CostsOf(graph_, plan, segment, model, {});
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    if (!IsExchange(segment.steps[i])) continue;
    EXPECT_DOUBLE_EQ(inside[i].seconds, static_cast<double>(ExchangedBytes(segment.steps[i])) / 2 / (1 << 12));
  }
}

// A ring gather among GPUs of two nodes crosses a node's network once for each group with ranks in it. Rates measured
// with all ranks do not apply to a group.
TEST_F(SplitExpertsTest, GroupsGatherByRings) {
  const Plan plan = PlanAt(3);
  CostModel model = TypicalHostModel(/*threads=*/1);
  model.device_is_host = false;
  model.launch_seconds = 0;
  model.ranks_per_node = 3;
  model.inside_node = 1e30;
  model.between_nodes = 1 << 10;
  model.device_memory = 1e30;
  model.kernels[{Name(StepKind::kReduceScatter), DType::kFloat32}].points = {{1, 1}};
  const Segment& segment = plan.segments[kMicroStepSegment];
  const std::vector<StepCost> costs = CostsOf(graph_, plan, segment, model, {});
  int found = 0;
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    const Step& step = segment.steps[i];
    const double bytes = static_cast<double>(ExchangedBytes(step));
    if (IsExchange(step) && graph_.ops[step.op].kind == OpKind::kGatherRows) {
      // Members are two apart, so a node of three ranks has 1.5 of them: half a rank's rows come from other nodes, for
      // each of two groups.
      EXPECT_DOUBLE_EQ(costs[i].seconds, bytes / 2 * 0.5 * 2 / (1 << 10));
      ++found;
    } else if (step.kind == StepKind::kReduceScatter) {
      const bool experts = graph_.units()[step.unit].is_experts;
      EXPECT_EQ(costs[i].seconds == bytes, !experts) << i;
      ++found;
    }
  }
  EXPECT_GE(found, 4);
}

}  // namespace
}  // namespace angel_ptm
