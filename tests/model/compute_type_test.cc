// A graph computes in the type of its table's parameters; what must not lose precision stays fp32.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "angel_ptm/model/hunyuan_lm.h"
#include "optim/adamw.h"
#include "optim/ema.h"

namespace angel_ptm {
namespace {

const HunyuanLmShape kShape{.vocab_size = 64,
                            .hidden_size = 32,
                            .intermediate_size = 48,
                            .num_hidden_layers = 2,
                            .num_attention_heads = 2,
                            .num_key_value_heads = 1,
                            .head_dim = 16,
                            .num_experts = 4,
                            .moe_topk = 2,
                            .tie_word_embeddings = true,
                            .router_aux_loss_coefficient = 0.01f};
const HunyuanLmBatch kBatch{.rows = 1, .sequence = 16};

std::vector<StateSpec> StatesWithAverage() {
  std::vector<StateSpec> states = AdamWStates(DType::kBFloat16);
  states.push_back(EmaState());
  return states;
}

Graph Training() {
  Graph graph = BuildHunyuanLmTraining(kShape, kBatch, {false, true}, HunyuanLmParameters(kShape, StatesWithAverage()));
  AppendAdamW(graph);
  AppendEma(graph);
  return graph;
}

int64_t CountOf(const Graph& graph, OpKind kind) {
  return std::count_if(graph.ops.begin(), graph.ops.end(), [&](const Op& op) { return op.kind == kind; });
}

TEST(ComputeType, ActivationsAndGradientsAreBf16AndStatisticsFp32) {
  const Graph graph = Training();
  const auto type = [&](std::string_view name) { return graph.tensor(graph.FindTensor(name)).dtype; };
  for (const char* name : {"embedding.y", "layers.0.self_attn.qkv.c", "layers.0.self_attn.qk.q",
                           "layers.0.self_attn.attention.o", "layers.1.mlp.dispatch.rows", "layers.1.mlp.combine.y",
                           "layers.1.mlp.experts.gate_up.c", "d layers.1.mlp.experts.swiglu.y", "final_norm.y"}) {
    EXPECT_EQ(type(name), DType::kBFloat16) << name;
  }
  for (const char* name : {"rope.cos_sin", "layers.0.self_attn.qk.q_rstd", "layers.0.self_attn.attention.lse",
                           "layers.1.mlp.router.weights", "layers.1.mlp.router.probs", "final_norm.rstd", "token_loss",
                           "d layers.1.mlp.router.weights"}) {
    EXPECT_EQ(type(name), DType::kFloat32) << name;
  }
  for (const TensorId t : graph.parameter_tensors) EXPECT_EQ(graph.tensor(t).dtype, DType::kBFloat16);
  for (const TensorId t : graph.gradient_tensors) EXPECT_EQ(graph.tensor(t).dtype, DType::kBFloat16);
}

TEST(ComputeType, TheMasterCopyIsWhatIsUpdatedAndAveraged) {
  const Graph graph = Training();
  const StateId master = FindState(graph.states(), kMasterState), ema = FindState(graph.states(), kEmaState);
  EXPECT_EQ(PreciseState(graph.states()), master);
  EXPECT_EQ(PreciseState(AdamWStates()), kParameterState);
  for (OpId op = graph.update_begin; op < static_cast<OpId>(graph.ops.size()); ++op) {
    const std::vector<StateId>& states = graph.ops[op].states;
    EXPECT_EQ(states.back(), master) << Name(graph.ops[op].kind);
    EXPECT_EQ(states[0], graph.ops[op].kind == OpKind::kEma ? ema : kParameterState);
  }
  EXPECT_EQ(CountOf(graph, OpKind::kCast), 0);
}

TEST(ComputeType, AnFp32AverageIsCastWhereItIsEvaluated) {
  const auto table = HunyuanLmParameters(kShape, StatesWithAverage());
  const StateId ema = FindState(table->states, kEmaState);
  EXPECT_EQ(CountOf(BuildHunyuanLmEvaluation(kShape, kBatch, table), OpKind::kCast), 0);
  const Graph graph = BuildHunyuanLmEvaluation(kShape, kBatch, table, ema);
  EXPECT_EQ(CountOf(graph, OpKind::kCast), static_cast<int64_t>(table->parameters.size()));
  EXPECT_EQ(graph.read_state, ema);
  HunyuanLmShape frozen = kShape;
  frozen.freeze = {"embedding"};  // has no average: its parameters are read as they are
  EXPECT_EQ(CountOf(BuildHunyuanLmEvaluation(frozen, kBatch, HunyuanLmParameters(frozen, StatesWithAverage()), ema),
                    OpKind::kCast),
            static_cast<int64_t>(table->parameters.size()) - 1);
}

// Values that are decoded or compared with other programs are not rounded.
TEST(ComputeType, LogitsAreFp32) {
  const auto table = HunyuanLmParameters(kShape, {ParameterState(DType::kBFloat16)});
  const Graph graph = BuildHunyuanLmDecoding(kShape, 1, 8, 16, table);
  EXPECT_EQ(graph.tensor(graph.FindTensor("logits.c")).dtype, DType::kFloat32);
}

}  // namespace
}  // namespace angel_ptm
