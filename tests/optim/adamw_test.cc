#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "angel_ptm/model/hunyuan_lm.h"

namespace angel_ptm {
namespace {

HunyuanLmShape TinyShape() {
  return {.vocab_size = 64,
          .hidden_size = 16,
          .intermediate_size = 32,
          .num_hidden_layers = 2,
          .num_attention_heads = 2,
          .num_key_value_heads = 1,
          .head_dim = 8,
          .num_experts = 4,
          .moe_topk = 2};
}

Graph TrainingGraph(const HunyuanLmShape& shape) {
  return BuildHunyuanLmTraining(shape, {.rows = 1, .sequence = 8}, {false, false},
                                HunyuanLmParameters(shape, AdamWStates()));
}

TEST(AppendAdamW, UpdatesEveryUnit) {
  Graph graph = TrainingGraph(TinyShape());
  const size_t micro_step_ops = graph.ops.size();
  AppendAdamW(graph);
  const size_t units = graph.units().size();
  EXPECT_EQ(graph.update_begin, static_cast<OpId>(micro_step_ops));
  ASSERT_EQ(graph.ops.size(), micro_step_ops + units);
  for (size_t u = 0; u < units; ++u) {
    const Op& update = graph.ops[micro_step_ops + u];
    EXPECT_EQ(update.kind, OpKind::kAdamW);
    EXPECT_EQ(update.unit, static_cast<UnitId>(u));
    EXPECT_EQ(update.phase, Phase::kUpdate);
  }
}

// In Rajbhandari et al. 2020, stages 1 and 2 differ in whether whole gradients stay between micro-batches. Here each
// micro-batch's gradients are reduced to their owners, so whole gradients would never be read.
TEST(AppendAdamW, ShardsOptimizerStatesFromStage1AndParametersFromStage3) {
  const std::vector<StateSpec> states = AdamWStates();
  ASSERT_EQ(states.size(), 4u);
  EXPECT_EQ(states[kParameterState].sharded_from_stage, 3);
  EXPECT_EQ(states[kGradientState].name, "gradients");
  EXPECT_FALSE(states[kGradientState].saved);
  for (StateId s : {kGradientState, kMoment1State, kMoment2State}) EXPECT_EQ(states[s].sharded_from_stage, 1);
  for (StateId s : {kParameterState, kMoment1State, kMoment2State}) EXPECT_TRUE(states[s].saved);
}

TEST(AppendAdamW, LeavesFrozenUnitsAlone) {
  HunyuanLmShape shape = TinyShape();
  shape.freeze = {"embedding", "layers.0.*", "layers.1.experts"};
  Graph graph = TrainingGraph(shape);
  AppendAdamW(graph);
  std::vector<std::string> updated;
  for (size_t i = graph.update_begin; i < graph.ops.size(); ++i) {
    updated.push_back(std::string(Name(graph.ops[i].kind)) + " " + graph.units()[graph.ops[i].unit].name);
  }
  EXPECT_EQ(updated, (std::vector<std::string>{"AdamW layers.1.dense", "AdamW head"}));
}

TEST(AppendAdamW, DecaysAllButNorms) {
  const auto table = HunyuanLmParameters(TinyShape());
  for (const Parameter& p : table->parameters) {
    EXPECT_EQ(p.weight_decay, p.shape.rank() > 1) << p.name;
  }
}

TEST(AppendAdamWDeathTest, NeedsGradientsAndStatesAndIsDoneOnce) {
  Graph evaluation = BuildHunyuanLmEvaluation(TinyShape(), {.rows = 1, .sequence = 8},
                                              HunyuanLmParameters(TinyShape(), AdamWStates()));
  EXPECT_DEATH(AppendAdamW(evaluation), "embed_tokens has no gradient");
  Graph stateless = BuildHunyuanLmTraining(TinyShape(), {.rows = 1, .sequence = 8}, {false, false});
  EXPECT_DEATH(AppendAdamW(stateless), "table has no moments");
  Graph training = TrainingGraph(TinyShape());
  AppendAdamW(training);
  EXPECT_DEATH(AppendAdamW(training), "exists already");
}

}  // namespace
}  // namespace angel_ptm
