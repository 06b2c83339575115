// One table for all graphs of a run: the first graph fills it, the others must declare what it contains.
#include "angel_ptm/model/parameter_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/model/graph_builder.h"
#include "optim/adamw.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

using model_testing::kSmallBatch;
using model_testing::SmallShape;
using Table = std::shared_ptr<const ParameterTable>;

struct Declared {
  std::string name;
  Shape shape;
  InitialValues initial = InitialValues::Normal(1);
};

// A graph of one unit, named "encoder" by default.
Graph Declare(const std::vector<Declared>& parameters, Table table, const std::string& unit_name = "encoder",
              std::vector<std::string> freeze = {}) {
  GraphBuilder builder("graph", std::move(table));
  builder.Freeze(std::move(freeze));
  const UnitId unit = builder.AddUnit(unit_name);
  for (const Declared& p : parameters) builder.AddParameter(unit, p.name, p.shape, p.initial, true, {});
  return builder.Build();
}

const std::vector<Declared>& All() {
  static const std::vector<Declared> all = {{"a", {5}}, {"b", {4, 4}}, {"c", {3}, InitialValues::Ones()}};
  return all;
}

TEST(ParameterTable, IsFilledByTheFirstGraph) {
  const Graph graph = Declare(All(), nullptr);
  ASSERT_EQ(graph.units().size(), 1u);
  EXPECT_EQ(graph.units()[0].name, "encoder");
  EXPECT_EQ(graph.units()[0].elements, 35);
  ASSERT_EQ(graph.parameters().size(), 3u);
  EXPECT_EQ(graph.table->ParameterCount(), 24);
  for (size_t p = 0; p < 3; ++p) {
    const Parameter& parameter = graph.parameters()[p];
    EXPECT_EQ(parameter.unit_offset, static_cast<int64_t>(16 * p));
    EXPECT_EQ(parameter.shape, All()[p].shape);
    EXPECT_EQ(graph.tensors[graph.parameter_tensors[p]].name, parameter.name);
    EXPECT_EQ(graph.gradient_tensors[p], kNone);
  }
  EXPECT_EQ(graph.states(), std::vector{ParameterState()});
}

// A pattern means all of a layer's expert units or none. One of them alone would be another model than that of a run
// whose experts are not split.
TEST(ParameterTable, PatternsMeanAllUnitsOfExperts) {
  const Unit down{.name = "layers.3.experts.down", .is_experts = true}, dense{.name = "layers.3.dense"};
  for (const char* pattern : {"layers.3.experts", "layers.*.experts", "*"}) {
    EXPECT_TRUE(IsMeant(down, pattern)) << pattern;
  }
  for (const char* pattern : {"layers.3.experts.down", "*down", "*.d*"}) {
    EXPECT_FALSE(IsMeant(down, pattern)) << pattern;
  }
  EXPECT_FALSE(IsMeant(down, "layers.3"));
  EXPECT_FALSE(IsMeant(down, "layers.4.experts"));
  EXPECT_FALSE(IsMeant(dense, "layers.3"));
  EXPECT_TRUE(IsMeant(dense, "layers.3.dense"));
}

TEST(ParameterTable, IsTheSameObjectForEveryGraphOfAModel) {
  for (const bool moe : {false, true}) {
    const HunyuanLmShape shape = SmallShape(moe, true);
    const std::vector<bool> recompute = {false, true, false};
    const Table table = HunyuanLmParameters(shape, AdamWStates());
    const auto expect_shared = [&](const Graph& shared, const Graph& alone) {
      EXPECT_EQ(shared.table, table) << shared.name;
      EXPECT_EQ(shared.states(), AdamWStates()) << shared.name;
      EXPECT_EQ(shared.parameters(), alone.parameters()) << shared.name;
      EXPECT_EQ(shared.parameter_tensors, alone.parameter_tensors) << shared.name;
      EXPECT_EQ(shared.gradient_tensors, alone.gradient_tensors) << shared.name;
    };
    expect_shared(BuildHunyuanLmTraining(shape, kSmallBatch, recompute, table),
                  BuildHunyuanLmTraining(shape, kSmallBatch, recompute));
    expect_shared(BuildHunyuanLmEvaluation(shape, kSmallBatch, table), BuildHunyuanLmEvaluation(shape, kSmallBatch));
    expect_shared(BuildHunyuanLmLogits(shape, kSmallBatch, table), BuildHunyuanLmLogits(shape, kSmallBatch));
    expect_shared(BuildHunyuanLmDecoding(shape, 3, 32, 4, table), BuildHunyuanLmDecoding(shape, 3, 32, 4));
  }
}

TEST(ParameterTable, AGraphMayLeaveParametersOut) {
  const Table table = Declare(All(), nullptr).table;
  const Graph graph = Declare({All()[2]}, table);
  EXPECT_EQ(graph.table, table);
  EXPECT_EQ(graph.parameter_tensors, (std::vector<TensorId>{kNone, kNone, 0}));
  EXPECT_EQ(graph.gradient_tensors, std::vector<TensorId>(3, kNone));
  EXPECT_EQ(graph.tensors[0].unit_offset, table->parameters[2].unit_offset);
}

TEST(ParameterTableDeathTest, CatchesAGraphOfOtherParameters) {
  const Table table = Declare(All(), nullptr).table;
  EXPECT_DEATH(Declare({{"a", {6}}}, table), "parameter a of shape .6. in unit encoder is another.* of shape .5.");
  EXPECT_DEATH(Declare({{"a", {5}, InitialValues::Ones()}}, table), "parameter a .* is another");
  EXPECT_DEATH(Declare({{"other", {5}}}, table), "no parameter other");
  EXPECT_DEATH(Declare({All()[0], All()[1], All()[2], {"d", {1}}}, table), "no parameter d behind c");
  EXPECT_DEATH(Declare({All()[1], All()[0]}, table), "no parameter a behind b");
  EXPECT_DEATH(Declare({}, table, "decoder"), "no unit decoder");
  EXPECT_DEATH(Declare({}, table, "encoder", {"enc*"}), "unit encoder is frozen here");
}

TEST(ParameterTableDeathTest, CatchesAParameterThatMovedToAnotherUnit) {
  const auto declare = [](bool moved, Table table) {
    GraphBuilder builder("graph", std::move(table));
    const UnitId one = builder.AddUnit("one"), two = builder.AddUnit("two");
    builder.AddParameter(moved ? two : one, "w", {8}, {}, true, {});
    return builder.Build();
  };
  const Table table = declare(false, nullptr).table;
  EXPECT_EQ(declare(false, table).table, table);
  EXPECT_DEATH(declare(true, table), "parameter w of shape .8. in unit two is another .* in unit one");
}

}  // namespace
}  // namespace angel_ptm
