// Counts what each ZeRO stage stores and sends while it runs, and compares it with the formulas of Rajbhandari et al.
// 2020. With P the padded bytes of all parameters, U the units, k the micro-steps and n the ranks:
//   stored: parameters P (stage 3: P/n), gradients P (stages 1, 2, 3: P/n), moments 2P (1, 2, 3: 2P/n)
//   sent per step: k U reductions of kP bytes; U gathers of gradients (stage 0) or of parameters (1, 2), P bytes each;
//   at stage 3 instead a gather of each unit's parameters for every visit by forward or backward ops
// Stage 1 as defined keeps whole gradients, but each rank reads only its own slice of them. A single rank gathers
// nothing.
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <tuple>

#include "comm/forwarding_communicator.h"
#include "optim/adamw.h"
#include "tests/laws/tiny_run.h"

namespace angel_ptm {
namespace {

struct Traffic {
  int64_t calls = 0, bytes = 0;  // of whole vectors

  void Add(size_t call_bytes) {
    ++calls;
    bytes += static_cast<int64_t>(call_bytes);
  }
  friend bool operator==(const Traffic&, const Traffic&) = default;
};
void PrintTo(const Traffic& t, std::ostream* os) { *os << t.calls << " calls of " << t.bytes << " bytes in all"; }

struct Counts {
  Traffic reductions, parameter_gathers, gradient_gathers, others;
  int64_t norms = 0;
};

class CountingCommunicator : public ForwardingCommunicator {
 public:
  // Issues the gather named `repeated` twice, as the sabotage. On the control communicator (`is_control`) only the
  // norms travel.
  CountingCommunicator(Communicator& inner, Counts* counts, std::string repeated, bool is_control = false)
      : ForwardingCommunicator(inner), counts_(*counts), repeated_(std::move(repeated)), is_control_(is_control) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return SplitInto(color, tag, [this](Communicator& group) {
      return std::make_unique<CountingCommunicator>(group, &counts_, repeated_, /*is_control=*/true);
    });
  }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    if (tag.what == "collect") return ForwardingCommunicator::AllGather(dst, src, tag);  // the test's own
    if (is_control_ != (tag.what == "gradient norm")) {
      counts_.others.Add(dst.size());
    } else if (is_control_) {
      ++counts_.norms;
    } else {
      (tag.what.ends_with(" parameters")  ? counts_.parameter_gathers
       : tag.what.ends_with(" gradients") ? counts_.gradient_gathers
                                          : counts_.others)
          .Add(dst.size());
    }
    if (tag.what == repeated_) {
      counts_.parameter_gathers.Add(dst.size());
      RETURN_IF_ERROR(ForwardingCommunicator::AllGather(dst, src, tag));
    }
    return ForwardingCommunicator::AllGather(dst, src, tag);
  }
  // Each unit of the tiny run is reduced in one exchange.
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    (tag.what.starts_with("reduce-scatter ") ? counts_.reductions : counts_.others).Add(dst.size());
    return ForwardingCommunicator::AllToAll(dst, src, tag);
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    counts_.others.Add(dst.size());
    return ForwardingCommunicator::Broadcast(dst, root, tag);
  }
  absl::Status Barrier(CallTag tag) override {
    counts_.others.Add(0);
    return ForwardingCommunicator::Barrier(tag);
  }

 private:
  Counts& counts_;
  const std::string repeated_;
  const bool is_control_;
};

constexpr int kMicroSteps = 2;

// What one rank stores and sends in one step.
struct Formula {
  Formula(const TinyRun& run, int world_size) : stage(run.zero_stage), world(world_size) {
    const bool tied = run.shape.tie_word_embeddings;
    const Graph graph = TinyGraph(run);
    for (const Unit& unit : graph.units()) {
      const int64_t per_rank = (unit.elements + world - 1) / world;
      const int64_t bytes = (per_rank + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment * world * 4;
      padded_bytes += bytes;
      ++units;
      // Forward and backward each visit a block (recomputation belongs to backward). The head is visited for its norm
      // and again in backward. The embedding is looked up once; the loss reads a tied one once more and computes its
      // gradient in the same visit.
      const int64_t visits = unit.name == "embedding" && !tied ? 1 : 2;
      visited.calls += visits;
      visited.bytes += visits * bytes;
    }
  }

  Counts Expected() const {
    const Traffic whole{units, padded_bytes};
    Counts counts;
    counts.norms = 1;
    if (world == 1) return counts;
    counts.reductions = {kMicroSteps * units, kMicroSteps * padded_bytes};
    if (stage == 0) counts.gradient_gathers = whole;
    if (stage == 1 || stage == 2) counts.parameter_gathers = whole;
    if (stage == 3) counts.parameter_gathers = {kMicroSteps * visited.calls, kMicroSteps * visited.bytes};
    return counts;
  }
  int64_t ParameterBytes() const { return stage >= 3 ? padded_bytes / world : padded_bytes; }
  int64_t GradientBytes() const { return stage >= 1 ? padded_bytes / world : padded_bytes; }
  int64_t MomentBytes() const { return stage >= 1 ? padded_bytes / world : padded_bytes; }

  int stage, world;
  int64_t units = 0, padded_bytes = 0;
  Traffic visited;
};

struct CountedRun {
  TinyResult result;
  std::vector<Counts> counts;  // by rank
};

CountedRun Count(TinyRun run, int world, const std::string& repeated) {
  CountedRun counted;
  counted.counts.resize(world);
  run.wrap = [&](Communicator& inner) {
    return std::make_unique<CountingCommunicator>(inner, &counted.counts[inner.rank()], repeated);
  };
  auto result = TrainLocally(run, world);
  EXPECT_TRUE(result.ok()) << result.status();
  if (result.ok()) counted.result = *std::move(result);
  return counted;
}

class CollectiveCountsTest : public testing::TestWithParam<std::tuple<bool, int, bool>> {
 protected:
  static TinyRun Run() {
    const auto [moe, zero_stage, recompute] = GetParam();
    TinyRun run{.shape = moe ? TinyMoe() : TinyDense(), .recompute = recompute, .zero_stage = zero_stage};
    run.shape.num_hidden_layers = 2;
    run.accumulation = kMicroSteps;
    run.steps = 1;
    return run;
  }
};

TEST_P(CollectiveCountsTest, MatchTheFormulasOfTheStage) {
  TinyRun run = Run();
  for (int world : {1, 3}) {
    SCOPED_TRACE(world);
    const Formula formula(run, world);
    // The traffic is the same however little memory there is.
    run.device_bytes = world == 1 ? 0 : UnconstrainedDeviceBytes(run, world) * 6 / 10;
    const CountedRun counted = Count(run, world, "");
    const Counts expected = formula.Expected();
    for (const Counts& counts : counted.counts) {
      EXPECT_EQ(counts.reductions, expected.reductions);
      EXPECT_EQ(counts.parameter_gathers, expected.parameter_gathers);
      EXPECT_EQ(counts.gradient_gathers, expected.gradient_gathers);
      EXPECT_EQ(counts.norms, expected.norms);
      EXPECT_EQ(counts.others, Traffic());
    }
    const auto& bytes = counted.result.state_bytes;
    EXPECT_EQ(bytes[kParameterState], formula.ParameterBytes());
    EXPECT_EQ(bytes[kGradientState], formula.GradientBytes());
    EXPECT_EQ(bytes[kMoment1State], formula.MomentBytes());
    EXPECT_EQ(bytes[kMoment2State], formula.MomentBytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, CollectiveCountsTest,
                         testing::Combine(testing::Bool(), testing::Values(0, 1, 2, 3), testing::Bool()),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Moe" : "Dense") + "Zero" +
                                  std::to_string(std::get<1>(test.param)) +
                                  (std::get<2>(test.param) ? "Recomputed" : "Kept");
                         });

TEST(CollectiveCountsSabotageTest, AGatherTooManyIsCounted) {
  TinyRun run{.shape = TinyDense(), .zero_stage = 3, .accumulation = kMicroSteps, .steps = 1};
  run.shape.num_hidden_layers = 2;
  const Counts expected = Formula(run, 2).Expected();
  const CountedRun counted = Count(run, 2, "all-gather layers.1.dense parameters");
  EXPECT_EQ(counted.counts[0].parameter_gathers.calls, expected.parameter_gathers.calls + 2 * kMicroSteps);
  EXPECT_GT(counted.counts[0].parameter_gathers.bytes, expected.parameter_gathers.bytes);
}

}  // namespace
}  // namespace angel_ptm
