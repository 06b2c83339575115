// VerifyPlan proves a plan for all ranks together. These tests check that the proof holds for each rank alone: they
// play small worlds rank by rank, with every place where it lies on that rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/plan/segment_builder.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

constexpr int64_t kCellBytes = 256;  // bytes of memory a cell; the alignment of regions and tensors
constexpr int64_t kCellElements = kCellBytes / 4;

Graph MakeTestGraph(int expert_degree) {
  HunyuanLmShape shape = plan_testing::SmallShape(2, true);
  shape.expert_degree = expert_degree;
  if (expert_degree > 1) shape.intermediate_size = 64;  // parts are whole slices on up to four ranks
  return plan_testing::TrainingGraph(shape, plan_testing::kSmallBatch, false);
}

const Graph& TestGraph(int expert_degree = 1) {
  static const Graph* const whole = new Graph(MakeTestGraph(1));
  static const Graph* const split = new Graph(MakeTestGraph(2));
  return expert_degree == 1 ? *whole : *split;
}

// A plan within `percent` of the unconstrained peak; nullopt if there is none.
std::optional<Plan> PlanOf(int world, int stage, int percent, int expert_degree = 1) {
  const Graph& graph = TestGraph(expert_degree);
  const BackendFacts facts = plan_testing::FactsFor(graph);
  PlanOptions options{.world_size = world,
                      .zero_stage = stage,
                      .expert_degree = expert_degree,
                      .page_bytes = 16 << 10,
                      .prefetch_steps = 2};
  absl::StatusOr<Plan> plan = MakePlan(graph, facts, options);
  if (percent < 100) {
    options.device_bytes = plan->arena_bytes[0] * percent / 100;
    plan = MakePlan(graph, facts, options);
  }
  if (!plan.ok()) return std::nullopt;
  return *std::move(plan);
}

struct Cells {
  size_t tier;
  int64_t begin, end;
};
// The cells of a place on a rank.
Cells CellsOf(const Plan& plan, const Segment& segment, const Place& place, int rank) {
  const Region& region = segment.regions[place.region];
  const int64_t begin = plan.layout.OffsetOf(region, place, rank);
  return {static_cast<size_t>(region.range.tier), begin / kCellBytes,
          (begin + place.bytes + kCellBytes - 1) / kCellBytes};
}

// Plays a segment on all ranks, step by step. Each memory cell holds the state cell and the version that it would
// contain.
class World {
 public:
  World(const Plan& plan, const Segment& segment)
      : plan_(plan),
        segment_(segment),
        layout_(plan.layout),
        graph_(TestGraph(layout_.expert_degree)),
        versions_(layout_.homes.size()),
        ranks_(world()) {
    for (size_t i = 0; i < layout_.homes.size(); ++i) {
      versions_[i].resize(SliceCells(layout_.homes[i].unit) * world());
    }
    for (Memory& memory : ranks_) {
      for (int t = 0; t < kTierCount; ++t) memory[t].resize(plan.arena_bytes[t] / kCellBytes + 1, kUnknown);
    }
    ForEachHome([&](int rank, const Home& home, int64_t begin, const Cells& at) {
      for (int64_t i = 0; i < at.end - at.begin; ++i) {
        ranks_[rank][at.tier][at.begin + i] = Newest(home.unit, home.state, begin + i);
      }
    });
  }

  // Returns whether every rank finds what it needs at every step, and has the newest versions at home at the end.
  bool Play() {
    for (const Step& step : segment_.steps) PlayStep(step);
    ForEachHome([&](int rank, const Home& home, int64_t begin, const Cells& at) {
      for (int64_t i = 0; i < at.end - at.begin; ++i) {
        ok_ &= ranks_[rank][at.tier][at.begin + i] == Newest(home.unit, home.state, begin + i);
      }
    });
    return ok_;
  }

 private:
  using Memory = std::array<std::vector<int64_t>, kTierCount>;
  static constexpr int64_t kUnknown = -1;

  int world() const { return layout_.world_size; }
  int64_t SliceCells(UnitId unit) const { return layout_.slices[unit].slice_elements / kCellElements; }
  // The number of ranks that use the same part of the unit (they are neighbours), and the cell where a rank's part
  // begins.
  int Sharers(UnitId unit) const { return graph_.units()[unit].is_experts ? world() / layout_.expert_degree : world(); }
  int64_t PartBegin(UnitId unit, int rank) const { return rank / Sharers(unit) * Sharers(unit) * SliceCells(unit); }
  int64_t& Version(UnitId unit, StateId s, int64_t cell) { return versions_[layout_.HomeIndex(unit, s)][cell]; }
  int64_t Newest(UnitId unit, StateId s, int64_t cell) {
    return (static_cast<int64_t>(layout_.HomeIndex(unit, s)) << 40) + (cell << 16) + Version(unit, s, cell);
  }

  // Calls visit(rank, home, first cell of the vector, cells). Of gradients, only the rank's own slice is visited.
  template <typename Visit>
  void ForEachHome(Visit&& visit) {
    for (int rank = 0; rank < world(); ++rank) {
      for (const Home& home : layout_.homes) {
        if (home.elements == 0) continue;
        const bool own = layout_.sharded(home.unit, home.state) || home.state == kGradientState;
        const int64_t slice = SliceCells(home.unit), part = PartBegin(home.unit, rank);
        const int64_t begin = own ? slice * rank : part, count = own ? slice : slice * Sharers(home.unit);
        const int64_t at = home.range.offset / kCellBytes + (layout_.sharded(home.unit, home.state) ? 0 : begin - part);
        visit(rank, home, begin, Cells{static_cast<size_t>(home.range.tier), at, at + count});
      }
    }
  }

  // Returns what the place's cells hold on that rank.
  std::vector<int64_t> Read(const Place& place, int rank) const {
    const Cells at = CellsOf(plan_, segment_, place, rank);
    const std::vector<int64_t>& tier = ranks_[rank][at.tier];
    std::vector<int64_t> cells;
    for (int64_t i = at.begin; i < at.end; ++i) cells.push_back(Inside(tier, i) ? tier[i] : kUnknown);
    return cells;
  }
  void Write(const Place& place, int rank, const std::vector<int64_t>& cells) {
    const Cells at = CellsOf(plan_, segment_, place, rank);
    std::vector<int64_t>& tier = ranks_[rank][at.tier];
    for (int64_t i = at.begin; i < at.end; ++i) {
      ok_ &= Inside(tier, i);
      if (Inside(tier, i)) tier[i] = cells.empty() ? kUnknown : cells[i - at.begin];
    }
  }
  static bool Inside(const std::vector<int64_t>& tier, int64_t i) {
    return i >= 0 && i < static_cast<int64_t>(tier.size());
  }
  std::vector<int64_t> Newest(UnitId unit, StateId s, int64_t cell, size_t count) {
    std::vector<int64_t> cells;
    for (size_t i = 0; i < count; ++i) cells.push_back(Newest(unit, s, cell + static_cast<int64_t>(i)));
    return cells;
  }
  void Expect(const Place& place, int rank, UnitId unit, StateId s, int64_t cell) {
    const std::vector<int64_t> cells = Read(place, rank);
    ok_ &= cells == Newest(unit, s, cell, cells.size());
  }

  int64_t FirstCell(const Step& step, int rank) const {
    return step.begin / kCellElements + (step.own ? SliceCells(step.unit) * rank : PartBegin(step.unit, rank));
  }

  void PlayStep(const Step& step) {
    switch (step.kind) {
      case StepKind::kCompute:
        for (int rank = 0; rank < world(); ++rank) Compute(step, rank);
        return;
      case StepKind::kMove:
        for (int rank = 0; rank < world(); ++rank) {
          if (step.unit != kNone) Expect(step.src, rank, step.unit, step.state, FirstCell(step, rank));
          Write(step.dst, rank, Read(step.src, rank));
        }
        return;
      case StepKind::kAllGather:
        return Gather(step);
      case StepKind::kReduceScatter:
        return Reduce(step);
      case StepKind::kUpdate:
        return Update(step);
      case StepKind::kNorm:
      case StepKind::kDeliver:
        return;
    }
  }

  void Compute(const Step& step, int rank) {
    const Op& op = graph_.ops[step.op];
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i] == kNone || graph_.tensors[op.inputs[i]].tensor_class != TensorClass::kParameter) continue;
      const Tensor& tensor = graph_.tensors[op.inputs[i]];
      Expect(step.operands[i], rank, tensor.unit, kParameterState,
             PartBegin(tensor.unit, rank) + tensor.unit_offset / kCellElements);
    }
    for (size_t i = op.inputs.size(); i < step.operands.size(); ++i) {
      if (step.operands[i].region != kNone) Write(step.operands[i], rank, {});
    }
  }

  void Gather(const Step& step) {
    std::vector<std::vector<int64_t>> parts(world() / Sharers(step.unit));
    for (int rank = 0; rank < world(); ++rank) {
      Expect(step.src, rank, step.unit, step.state, SliceCells(step.unit) * rank);
      const std::vector<int64_t> own = Read(step.src, rank);
      std::vector<int64_t>& part = parts[rank / Sharers(step.unit)];
      part.insert(part.end(), own.begin(), own.end());
    }
    for (int rank = 0; rank < world(); ++rank) Write(step.dst, rank, parts[rank / Sharers(step.unit)]);
  }

  void Reduce(const Step& step) {
    const int64_t slice = SliceCells(step.unit);
    for (int rank = 0; rank < world(); ++rank) {
      Expect(step.dst, rank, step.unit, kGradientState, slice * rank);
      for (int64_t i = 0; i < slice; ++i) ++Version(step.unit, kGradientState, slice * rank + i);
      Write(step.dst, rank, Newest(step.unit, kGradientState, slice * rank, slice));
      Write(step.src, rank, {});
      if (step.scratch.region != kNone) Write(step.scratch, rank, {});
    }
  }

  void Update(const Step& step) {
    const Op& op = graph_.ops[step.op];
    const int64_t count = step.count / kCellElements;
    for (size_t slot = 0; slot < op.states.size(); ++slot) {
      const StateId s = op.states[slot];
      for (int rank = 0; rank < world(); ++rank) {
        Expect(step.operands[slot], rank, step.unit, s, FirstCell(step, rank));
      }
      if (!Writes(AccessOf(op, static_cast<int>(slot)))) continue;
      for (int rank = 0; rank < world(); rank += step.own ? 1 : Sharers(step.unit)) {
        for (int64_t i = 0; i < count; ++i) ++Version(step.unit, s, FirstCell(step, rank) + i);
      }
      for (int rank = 0; rank < world(); ++rank) {
        Write(step.operands[slot], rank, Newest(step.unit, s, FirstCell(step, rank), count));
      }
    }
  }

  const Plan& plan_;
  const Segment& segment_;
  const Layout& layout_;
  const Graph& graph_;
  std::vector<std::vector<int64_t>> versions_;  // by home, for every cell of the vector
  std::vector<Memory> ranks_;
  bool ok_ = true;
};

// Returns whether waits and lanes order all conflicting accesses of one rank.
bool IsOrdered(const Plan& plan, const Segment& segment, int rank) {
  using Counts = std::array<int32_t, kLaneCount>;
  struct Uses {
    Counts written = {}, read = {};
  };
  std::array<std::vector<Uses>, kTierCount> uses;
  for (int t = 0; t < kTierCount; ++t) uses[t].resize(plan.arena_bytes[t] / kCellBytes + 1);
  std::array<std::vector<Counts>, kLaneCount> done;
  int32_t norm = 0;
  bool ordered = true;
  for (const Step& step : segment.steps) {
    const int lane = static_cast<int>(step.lane);
    Counts clock = done[lane].empty() ? Counts{} : done[lane].back();
    const auto raise = [&](const Counts& to) {
      for (int l = 0; l < kLaneCount; ++l) clock[l] = std::max(clock[l], to[l]);
    };
    for (int l = 0; l < kLaneCount; ++l) {
      if (step.waits[l] > 0) raise(done[l][step.waits[l] - 1]);
    }
    clock[lane] = static_cast<int32_t>(done[lane].size()) + 1;
    const auto behind = [&](const Counts& earlier) {
      for (int l = 0; l < kLaneCount; ++l) ordered &= earlier[l] <= clock[l];
    };
    ForEachPlace(TestGraph(plan.layout.expert_degree), step, [&](const Place& place, bool writes) {
      const Cells at = CellsOf(plan, segment, place, rank);
      for (int64_t i = at.begin; i < at.end; ++i) {
        Uses& use = uses[at.tier][i];
        behind(use.written);
        if (writes) behind(use.read);
        (writes ? use.written : use.read)[lane] = clock[lane];
      }
    });
    constexpr int kComm = static_cast<int>(Lane::kComm);
    if (step.kind == StepKind::kNorm) norm = clock[lane];
    if (step.kind == StepKind::kUpdate) ordered &= norm <= clock[kComm];
    done[lane].push_back(clock);
  }
  return ordered;
}

bool IsOrderedOnAll(const Plan& plan, const Segment& segment) {
  bool ordered = true;
  for (int rank = 0; rank < plan.layout.world_size && ordered; ++rank) ordered = IsOrdered(plan, segment, rank);
  return ordered;
}

TEST(EveryRank, FindsWhatItNeedsInOrder) {
  int moves_of_own_pages = 0;
  struct Ranks {
    int world, degree;
  };
  for (const auto& [world, degree] :
       {Ranks{1, 1}, Ranks{2, 1}, Ranks{3, 1}, Ranks{4, 1}, Ranks{5, 1}, Ranks{2, 2}, Ranks{4, 2}}) {
    for (int stage = 0; stage <= 3; ++stage) {
      for (int percent : FewerIfSanitized(1, {35, 70, 100})) {
        SCOPED_TRACE(absl::StrCat("world ", world, ", degree ", degree, ", stage ", stage, ", ", percent, " %"));
        const std::optional<Plan> plan = PlanOf(world, stage, percent, degree);
        if (!plan.has_value()) continue;
        const absl::Status verified = VerifyPlan(TestGraph(degree), *plan);
        ASSERT_TRUE(verified.ok()) << verified;
        for (const Segment& segment : plan->segments) {
          EXPECT_TRUE(World(*plan, segment).Play()) << segment.name;
          EXPECT_TRUE(IsOrderedOnAll(*plan, segment)) << segment.name;
          for (const Step& step : segment.steps) {
            moves_of_own_pages += step.kind == StepKind::kMove && (step.src.own || step.dst.own) ? 1 : 0;
          }
        }
      }
    }
  }
  EXPECT_GT(moves_of_own_pages, 100);
}

// The planner makes waits for all ranks together; each of them is needed by some rank.
TEST(EveryRank, EveryWaitIsSomeRanks) {
  for (int stage = 0; stage <= 3; ++stage) {
    Plan plan = *PlanOf(3, stage, 70);
    for (Segment* segment : {&plan.segments[kMicroStepSegment], &plan.segments[kUpdateSegment]}) {
      for (Step& step : segment->steps) {
        for (int32_t& wait : step.waits) {
          if (wait == 0) continue;
          --wait;
          EXPECT_FALSE(IsOrderedOnAll(plan, *segment)) << "stage " << stage;
          ++wait;
        }
      }
    }
  }
}

// A place that is marked as the rank's own slice where it should be the same on all ranks, or the other way round,
// breaks the plan.
TEST(EveryRank, AnotherPlaceIsNoPlan) {
  int places = 0;
  for (int stage : FewerIfSanitized(2, {3, 1, 0})) {
    Plan plan = *PlanOf(2, stage, 70);
    for (Segment* of_plan : {&plan.segments[kMicroStepSegment], &plan.segments[kUpdateSegment]}) {
      Segment& segment = *of_plan;
      for (Step& step : segment.steps) {
        std::vector<Place*> of_step = {&step.src, &step.dst};
        if (step.kind == StepKind::kUpdate) {
          for (Place& place : step.operands) of_step.push_back(&place);
        }
        for (Place* place : of_step) {
          if (place->region == kNone || step.unit == kNone) continue;
          const Region& region = segment.regions[place->region];
          // Only a region that holds a whole vector can hold both an own slice and the rest.
          const int64_t whole = plan.layout.bytes(region.state, plan.layout.whole_elements(step.unit));
          if (region.range.bytes != whole || place->bytes == whole) continue;
          place->own = !place->own;
          ++places;
          EXPECT_FALSE(World(plan, segment).Play());
          EXPECT_FALSE(VerifyPlan(TestGraph(), plan).ok());
          place->own = !place->own;
        }
      }
    }
  }
  EXPECT_GT(places, 50);
}

}  // namespace
}  // namespace angel_ptm
