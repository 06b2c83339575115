// Frozen units: nothing is computed for them, and not a bit changes in what the others get.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>

#include "angel_ptm/model/hunyuan_lm.h"
#include "tests/model/graph_player.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

using model_testing::kSmallBatch;
using model_testing::SmallShape;

Graph TrainingGraph(bool tied, bool recompute, const std::function<bool(const std::string&)>& trainable) {
  HunyuanLmShape shape = SmallShape(/*moe=*/true, tied);
  const auto table = HunyuanLmParameters(shape);
  for (const Unit& unit : table->units) {
    if (!trainable(unit.name)) shape.freeze.push_back(unit.name);
  }
  return BuildHunyuanLmTraining(shape, kSmallBatch, std::vector<bool>(3, recompute));
}

void Play(GraphPlayer& player) {
  player.FillParameters(1, 0.25f);
  player.FillTextInputs(2, kSmallBatch.sequence, 80);
  player.Run();
}

struct Case {
  const char* name;
  std::function<bool(const std::string&)> trainable;
};
const Case kCases[] = {
    {"all but the embedding", [](const std::string& unit) { return unit != "embedding"; }},
    {"all but the head", [](const std::string& unit) { return unit != "head"; }},
    {"all but a middle layer", [](const std::string& unit) { return !unit.starts_with("layers.1."); }},
    {"all but the experts", [](const std::string& unit) { return !unit.ends_with("experts"); }},
    {"one dense unit", [](const std::string& unit) { return unit == "layers.1.dense"; }},
    {"one layer's experts", [](const std::string& unit) { return unit == "layers.1.experts"; }},
    {"the embedding", [](const std::string& unit) { return unit == "embedding"; }},
    {"the head", [](const std::string& unit) { return unit == "head"; }},
};

TEST(Frozen, TheOthersGradientsKeepTheirBits) {
  for (const bool tied : {false, true}) {
    const Graph all = TrainingGraph(tied, false, [](const std::string&) { return true; });
    GraphPlayer want(all);
    Play(want);
    for (const Case& c : kCases) {
      for (const bool recompute : {false, true}) {
        const Graph graph = TrainingGraph(tied, recompute, c.trainable);
        GraphPlayer got(graph);
        Play(got);
        for (size_t p = 0; p < graph.parameters().size(); ++p) {
          const Parameter& parameter = graph.parameters()[p];
          const TensorId gradient = graph.gradient_tensors[p];
          ASSERT_EQ(gradient != kNone, c.trainable(graph.units()[parameter.unit].name)) << c.name << parameter.name;
          if (gradient == kNone) continue;
          EXPECT_EQ(got.Values(gradient), want.Values(all.gradient_tensors[p])) << c.name << ": " << parameter.name;
        }
      }
    }
  }
}

TEST(Frozen, NothingIsComputedThatNobodyReads) {
  for (const Case& c : kCases) {
    const Graph graph = TrainingGraph(false, true, c.trainable);
    std::set<TensorId> read;
    for (OpId i = static_cast<OpId>(graph.ops.size()) - 1; i > graph.loss; --i) {
      const Op& op = graph.ops[i];
      bool useful = false;
      for (TensorId t : op.outputs) {
        useful |= t != kNone && (read.contains(t) || graph.tensors[t].tensor_class == TensorClass::kGradient);
      }
      EXPECT_TRUE(useful) << c.name << ": " << Name(op.phase) << " " << Name(op.kind) << " "
                          << graph.tensors[NamingOutput(op)].name;
      read.insert(op.inputs.begin(), op.inputs.end());
    }
  }
}

TEST(Frozen, BackwardEndsAtTheLowestTrainableLayer) {
  const Graph graph = TrainingGraph(false, true, kCases[4].trainable);  // layers.1.dense
  std::map<int, int> blocks;                                            // number of backward ops by block; -1: none
  for (OpId i = graph.loss + 1; i < static_cast<OpId>(graph.ops.size()); ++i) ++blocks[graph.ops[i].block];
  EXPECT_EQ(blocks[0], 0);
  EXPECT_GT(blocks[1], 0);
  EXPECT_GT(blocks[2], 0);
  EXPECT_EQ(graph.ops[graph.loss].outputs[2], kNone);  // the head's weight
  EXPECT_NE(graph.ops[graph.loss].outputs[1], kNone);
}

TEST(Frozen, IsPartOfTheDigest) {
  const auto all = [](const std::string&) { return true; };
  EXPECT_NE(Hash(TrainingGraph(false, false, all)), Hash(TrainingGraph(false, false, kCases[0].trainable)));
}

}  // namespace
}  // namespace angel_ptm
