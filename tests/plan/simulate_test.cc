// Costs and simulations of small plans against arithmetic by hand.
#include "angel_ptm/plan/simulate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

using plan_testing::FactsFor;
using plan_testing::kSmallBatch;
using plan_testing::SmallShape;
using plan_testing::TrainingGraph;

constexpr std::array<double, kSharedCount> kOfEach = {1, 1, 1};

Step StepOn(Lane lane, std::array<int32_t, kLaneCount> waits = {}) {
  Step step{.lane = lane};
  step.waits = waits;
  return step;
}

StepCost Takes(double seconds, double cores = 0) {
  StepCost cost{.seconds = seconds};
  cost.uses[static_cast<int>(Shared::kCores)] = cores;
  return cost;
}

double On(const std::array<double, kLaneCount>& by_lane, Lane lane) { return by_lane[static_cast<int>(lane)]; }

TEST(WorkRateTest, IsAPowerBetweenPointsAndProportionalBeyond) {
  const WorkRate rate{{{100, 10}, {10'000, 100}}};  // 10 s, 100 s
  EXPECT_DOUBLE_EQ(rate.Seconds(50), 5);
  EXPECT_DOUBLE_EQ(rate.Seconds(100), 10);
  EXPECT_NEAR(rate.Seconds(1000), std::sqrt(10.0 * 100), 1e-9);
  EXPECT_DOUBLE_EQ(rate.Seconds(20'000), 200);
  EXPECT_FALSE(WorkRate().known());
}

TEST(SimulateSegmentTest, WaitsAndNamesTheCriticalPath) {
  // A copy-in takes 2 s; a compute step of 3 s waits for it while a second copy of 4 s runs; a compute step of 1 s
  // waits for that copy.
  Segment segment;
  segment.steps = {StepOn(Lane::kCopyIn), StepOn(Lane::kCompute, {0, 0, 1}), StepOn(Lane::kCopyIn),
                   StepOn(Lane::kCompute, {0, 0, 2})};
  const SegmentTime time = SimulateSegment(segment, {Takes(2), Takes(3), Takes(4), Takes(1)}, kOfEach);
  EXPECT_DOUBLE_EQ(time.seconds, 7);
  EXPECT_DOUBLE_EQ(time.spans[1].begin, 2);
  EXPECT_DOUBLE_EQ(time.spans[1].end, 5);
  EXPECT_DOUBLE_EQ(time.spans[3].begin, 6);
  EXPECT_DOUBLE_EQ(On(time.busy, Lane::kCompute), 4);
  EXPECT_DOUBLE_EQ(On(time.busy, Lane::kCopyIn), 6);
  EXPECT_DOUBLE_EQ(On(time.critical, Lane::kCopyIn), 6);
  EXPECT_DOUBLE_EQ(On(time.critical, Lane::kCompute), 1);
}

TEST(SimulateSegmentTest, LanesShareCores) {
  // There are 2 cores; compute wants 2 and the copy 1. Both run at 2/3 of their speed: the copy ends after 3 s, when 2
  // of compute's 4 seconds are done.
  Segment segment;
  segment.steps = {StepOn(Lane::kCompute), StepOn(Lane::kCopyOut)};
  const SegmentTime time = SimulateSegment(segment, {Takes(4, 2), Takes(2, 1)}, {2, 1, 1});
  EXPECT_DOUBLE_EQ(time.spans[1].end, 3);
  EXPECT_DOUBLE_EQ(time.spans[0].end, 5);
  // A step that uses no scarce resource is not slowed.
  EXPECT_DOUBLE_EQ(SimulateSegment(segment, {Takes(4, 2), Takes(2)}, {2, 1, 1}).spans[1].end, 2);
}

TEST(SimulateSegmentDeathTest, StepsThatWaitForEachOtherAreABug) {
  Segment segment{.name = "knot"};
  segment.steps = {StepOn(Lane::kCompute, {0, 1}), StepOn(Lane::kComm, {1})};
  EXPECT_DEATH(SimulateSegment(segment, {Takes(1), Takes(1)}, kOfEach), "knot wait for each other");
}

// An accelerator with a slow copy engine of its own. Rates are powers of two, so sums are exact.
CostModel SmallModel() {
  CostModel model;
  model.matrix[0] = {{{1, 1 << 20}}};
  model.device_memory = 1 << 18;
  model.host_memory = model.host_adamw = 1 << 16;
  model.to_device = model.to_host = 1 << 14;
  model.inside_node = 1 << 12;
  model.between_nodes = 1 << 12;
  model.ranks_per_node = 2;
  return model;
}

class CostTest : public ::testing::Test {
 protected:
  // Four ranks, with state away from the device so that all kinds of steps occur.
  CostTest() : graph_(TrainingGraph(SmallShape(2, false), kSmallBatch, false)), facts_(FactsFor(graph_)) {
    PlanOptions options{.world_size = 4, .zero_stage = 3, .page_bytes = 4096};
    options.device_bytes = plan_testing::LeastDeviceBytes(graph_, facts_, options);
    plan_ = *MakePlan(graph_, facts_, options);
  }

  const Step& First(StepKind kind, Lane lane, size_t* index) const {
    for (const Segment& segment : plan_.segments) {
      for (size_t i = 0; i < segment.steps.size(); ++i) {
        const Step& step = segment.steps[i];
        if (step.kind != kind || step.lane != lane) continue;
        if (kind == StepKind::kCompute && graph_.ops[step.op].kind != OpKind::kMatmul) continue;
        *index = i;
        segment_ = &segment;
        return step;
      }
    }
    APTM_CHECK(false, Name(kind));
  }
  double SecondsOf(size_t index, const CostModel& model) const {
    return CostsOf(graph_, plan_, *segment_, model, {})[index].seconds;
  }

  const Graph graph_;
  const BackendFacts facts_;
  Plan plan_;
  mutable const Segment* segment_ = nullptr;
};

TEST_F(CostTest, EveryKindOfStepByHand) {
  CostModel model = SmallModel();
  size_t i = 0;
  // 128 tokens, width 64; q, k and v have 8 heads of 16 in all: 2 * 128 * 64 * 128 FLOPs. The bytes take longer: 4 *
  // (128 * 64 + 128 * 64 + 128 * 128).
  const Step& product = First(StepKind::kCompute, Lane::kCompute, &i);
  EXPECT_EQ(graph_.ops[product.op].outputs.size(), 1u);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), 2.0 * 128 * 64 * 128 / (1 << 20));
  model.matrix[0].points[0].second = 1 << 30;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), 4.0 * (128 * 64 * 2 + 128 * 128) / (1 << 18));
  // A measured time takes precedence.
  model.kernels[{"Matmul", DType::kFloat32}] = {{{1, 2.0 * 128 * 64 * 128}}};
  model.launch_seconds = 0.5;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), 1.5);
  model.launch_seconds = 0;

  const Step& move = First(StepKind::kMove, Lane::kCopyIn, &i);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), static_cast<double>(move.dst.bytes) / (1 << 14));

  // Two nodes of two ranks: half of the vector comes from the node's other rank, half from the other node.
  const Step& gather = First(StepKind::kAllGather, Lane::kComm, &i);
  const double whole = static_cast<double>(gather.dst.bytes);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), whole / 2 / (1 << 12));
  model.between_nodes = 1 << 10;
  model.between_latency_seconds = 2;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), whole / 2 / (1 << 10) + 2);

  // Each rank of a node receives its quarter from both ranks of the other node.
  const Step& reduction = First(StepKind::kReduceScatter, Lane::kComm, &i);
  const double src = static_cast<double>(reduction.src.bytes), own = static_cast<double>(reduction.dst.bytes);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), src / 4 * 2 * 2 / (1 << 10) + 2 + (src + own) / (1 << 18));

  // By nodes: each rank receives half of the vector from the node's other rank. Then it receives the other node's sum
  // of a quarter, for each of the node's two ranks. A node's sums are written and read in between.
  plan_.layout.ranks_per_node = 2;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model),
                   src / 2 / (1 << 12) + src / 4 * 2 / (1 << 10) + 2 + (src + own + src / 4 * 2 * 2) / (1 << 18));
  First(StepKind::kAllGather, Lane::kComm, &i);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), whole / 2 / (1 << 10) + 2) << "NCCL knows nodes";
  // Transports of the host: first between nodes, then inside them; without nodes, from all ranks together.
  model.device_is_host = true;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), whole / 4 * 2 / (1 << 10) + 2 + whole / 2 / (1 << 12));
  plan_.layout.ranks_per_node = 0;
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), whole / 4 * 2 * 2 / (1 << 10) + 2);
  model.device_is_host = false;

  // AdamW on the host moves 28 bytes an element.
  const Step& update = First(StepKind::kUpdate, Lane::kHostCompute, &i);
  EXPECT_DOUBLE_EQ(SecondsOf(i, model), 28.0 * static_cast<double>(update.count) / (1 << 16));
}

TEST_F(CostTest, UsesNoMoreOfWhatIsSharedThanItKeepsBusy) {
  CostModel model = SmallModel();
  model.file_read = 1 << 20;
  model.device_is_host = true;
  model.capacity = {0.5, 1, 1};  // two ranks on a core
  Segment segment;
  segment.steps = {StepOn(Lane::kFileIn), StepOn(Lane::kCopyIn)};
  for (Step& step : segment.steps) {
    step.kind = StepKind::kMove;
    step.dst.bytes = 1 << 20;
  }
  const auto uses = [&](int step, Shared shared) {
    return CostsOf(graph_, plan_, segment, model, {})[step].uses[static_cast<int>(shared)];
  };
  EXPECT_DOUBLE_EQ(uses(0, Shared::kDrive), 1);
  // A page read alone takes twice as long as one in a deep queue.
  model.kernels[{"file-in", DType::kFloat32}] = {{{1 << 20, 1 << 19}}};
  EXPECT_DOUBLE_EQ(uses(0, Shared::kDrive), 0.5);
  // The copy's rate is measured while both ranks copy.
  EXPECT_DOUBLE_EQ(uses(1, Shared::kCores), 0.5);
}

TEST_F(CostTest, StepsAddUpToSegmentsAndFasterMachinesAreNoSlower) {
  const CostModel model = SmallModel();
  const StepTime one = SimulateStep(graph_, plan_, model, 1), four = SimulateStep(graph_, plan_, model, 4);
  const StepTime five = SimulateStep(graph_, plan_, model, 5);
  EXPECT_GT(one.seconds, 0);
  EXPECT_GT(four.seconds, 3 * one.busy[0]);
  double critical = 0;
  for (const double seconds : four.critical) critical += seconds;
  EXPECT_NEAR(critical, four.seconds, 1e-9 * four.seconds);
  // The middle micro-batches share one simulated play.
  EXPECT_NEAR(five.seconds - four.seconds, (four.seconds - SimulateStep(graph_, plan_, model, 3).seconds), 1e-6);
  EXPECT_LE(four.plays.size(), 4u);
  for (int l = 0; l < kLaneCount; ++l) EXPECT_LE(four.busy[l], four.seconds * (1 + 1e-9));
  // On an accelerator only the host's memory is shared, and here one lane at a time uses it. Starts are maxima of ends,
  // so a higher rate cannot delay anything.
  double CostModel::*const rates[] = {&CostModel::device_memory, &CostModel::to_device, &CostModel::to_host,
                                      &CostModel::inside_node, &CostModel::between_nodes};
  for (double CostModel::*rate : rates) {
    CostModel faster = model;
    faster.host_memory *= 1024;
    CostModel slower = faster;
    faster.*rate *= 2;
    EXPECT_LE(SimulateStep(graph_, plan_, faster, 2).seconds,
              SimulateStep(graph_, plan_, slower, 2).seconds * (1 + 1e-9));
  }
}

}  // namespace
}  // namespace angel_ptm
