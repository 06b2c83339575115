// Compares the gradients of graphs that use tensors and weights in several places with finite differences.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/model/graph_builder.h"
#include "tests/model/check_gradients.h"
#include "tests/model/graph_player.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

constexpr int64_t kT = 6, kH = 8, kF = 5, kV = 11, kQ = 2, kG = 1, kD = 4;

// Builds graphs of one sequence from parts. Each part returns [T,H] unless its comment says otherwise.
class Parts {
 public:
  explicit Parts(uint32_t seed) : random_(seed) {
    tokens_ = builder_.AddInput("tokens", {kT}, DType::kInt32);
    targets_ = builder_.AddInput("targets", {kT}, DType::kInt32);
    segment_start_ = builder_.AddInput("segment_start", {kT}, DType::kInt32);
    const TensorId positions = builder_.AddInput("positions", {kT}, DType::kInt32);
    cos_sin_ = builder_.Append(OpKind::kRopeTable, "rope", {positions}, {.rope_theta = 100, .head_dim = kD})[0];
  }

  int Random(size_t n) { return static_cast<int>(random_() % n); }
  // Also draws weights that are already in use, unless `fresh`.
  void UseFreshWeightsOnly() { fresh_ = true; }

  TensorId Weight(const Shape& shape) {
    const Graph& graph = builder_.graph();
    if (!fresh_ && Random(4) == 0) {
      for (const TensorId p : graph.parameter_tensors) {
        if (graph.tensors[p].shape == shape) return p;
      }
    }
    const std::string name = absl::StrCat("w", graph.parameters().size());
    return builder_.AddParameter(builder_.AddUnit(name), name, shape, InitialValues::Normal(0.5f), true, {});
  }
  TensorId Embedding() { return builder_.Append(OpKind::kEmbedding, Op(), {Weight({kV, kH}), tokens_})[0]; }
  TensorId Linear(TensorId x, int64_t out) {
    const int64_t in = builder_.graph().tensors[x].shape[1];
    return builder_.Append(OpKind::kMatmul, Op(), {x, Weight({out, in})}, {.trans_b = true})[0];
  }
  // Returns {sum or kNone, normed}.
  std::vector<TensorId> AddNorm(TensorId x, TensorId delta) {
    return builder_.Append(OpKind::kAddRmsNorm, Op(), {x, delta, Weight({kH})}, {.epsilon = 1e-5f});
  }
  TensorId Swiglu(TensorId gate_up) { return builder_.Append(OpKind::kSwiglu, Op(), {gate_up, kNone})[0]; }
  TensorId Copy(TensorId x) { return builder_.Append(OpKind::kAdd, Op(), {x})[0]; }
  struct Heads {
    TensorId q, k, qkv;
  };
  // With the weights of two norms, or `weight` for both.
  Heads QueriesKeysValues(TensorId x, TensorId weight = kNone) {
    const TensorId qkv = Linear(x, (kQ + 2 * kG) * kD);
    const TensorId q_weight = weight == kNone ? Weight({kD}) : weight;
    const TensorId k_weight = weight == kNone ? Weight({kD}) : weight;
    const auto qk = builder_.Append(OpKind::kQkRopeNorm, Op(), {qkv, cos_sin_, q_weight, k_weight}, Attributes());
    return {qk[0], qk[1], qkv};
  }
  TensorId Attention(TensorId q, TensorId k, TensorId qkv) {
    return Linear(builder_.Append(OpKind::kAttention, Op(), {q, k, qkv, segment_start_}, Attributes())[0], kH);
  }
  Graph Finish(TensorId x) {
    builder_.Append(OpKind::kLinearCrossEntropy, "loss", {x, Weight({kV, kH}), targets_}, {.chunk_tokens = 4});
    builder_.graph().loss = static_cast<OpId>(builder_.graph().ops.size()) - 1;
    AppendBackward(builder_, {});
    return builder_.Build();
  }

 private:
  std::string Op() { return absl::StrCat("op", builder_.graph().ops.size()); }
  static OpAttrs Attributes() {
    return {.epsilon = 1e-5f, .rows = 1, .sequence = kT, .q_heads = kQ, .kv_heads = kG, .head_dim = kD};
  }

  GraphBuilder builder_{"parts"};
  std::mt19937 random_;
  bool fresh_ = false;
  TensorId tokens_, targets_, segment_start_, cos_sin_;
};

void Check(const Graph& graph) {
  GraphPlayer player(graph);
  player.FillParameters(1, 0.4f);
  player.FillTextInputs(2, kT, kV);
  CheckGradients(graph, player);
  if (testing::Test::HasFailure()) FAIL() << ToText(graph);
}

TEST(Gradients, TwoLayersAttendToOnesKeysAndValues) {
  Parts parts(1);
  parts.UseFreshWeightsOnly();
  const TensorId x = parts.Embedding();
  const auto first = parts.QueriesKeysValues(x);
  const TensorId y = parts.AddNorm(parts.Attention(first.q, first.k, first.qkv), kNone)[1];
  const auto second = parts.QueriesKeysValues(y);
  Check(parts.Finish(parts.AddNorm(y, parts.Attention(second.q, first.k, first.qkv))[1]));
}

TEST(Gradients, OneQueryAttendsTwice) {
  Parts parts(1);
  const auto heads = parts.QueriesKeysValues(parts.Embedding());
  const TensorId once = parts.Attention(heads.q, heads.k, heads.qkv);
  Check(parts.Finish(parts.AddNorm(once, parts.Attention(heads.q, heads.k, heads.qkv))[1]));
}

TEST(Gradients, QueriesKeysAndValuesAreAlsoUsedWhole) {
  Parts parts(1);
  const auto heads = parts.QueriesKeysValues(parts.Embedding());
  const TensorId whole = parts.Linear(heads.qkv, kH);
  Check(parts.Finish(parts.AddNorm(whole, parts.Attention(heads.q, heads.k, heads.qkv))[1]));
}

TEST(Gradients, SwigluInputIsUsedTwice) {
  Parts parts(1);
  const TensorId gate_up = parts.Linear(parts.Embedding(), 2 * kF);
  const TensorId a = parts.Linear(parts.Swiglu(gate_up), kH), b = parts.Linear(parts.Swiglu(gate_up), kH);
  Check(parts.Finish(parts.AddNorm(a, b)[1]));
}

// A sum's x and delta share its gradient; another user of one of them must not affect the other.
TEST(Gradients, DeltaIsUsedBeforeTheResidualSum) {
  Parts parts(1);
  const TensorId x = parts.Linear(parts.Embedding(), kH);
  const TensorId delta = parts.Linear(x, kH);
  const TensorId adapter = parts.Linear(delta, kH);
  const auto sum = parts.AddNorm(x, delta);
  Check(parts.Finish(parts.AddNorm(sum[1], adapter)[1]));
}

TEST(Gradients, OperandsOfASumAreUsedAfterIt) {
  Parts parts(1);
  const TensorId x = parts.Embedding(), delta = parts.Linear(x, kH);
  const auto sum = parts.AddNorm(x, delta);
  const auto again = parts.AddNorm(parts.Linear(sum[1], kH), delta);
  Check(parts.Finish(parts.AddNorm(again[0], x)[1]));
}

TEST(Gradients, ATensorIsAddedToItself) {
  Parts parts(1);
  const TensorId x = parts.Linear(parts.Embedding(), kH);
  const auto sum = parts.AddNorm(x, x);
  Check(parts.Finish(parts.AddNorm(parts.Copy(sum[0]), x)[0]));
}

TEST(Gradients, OnlyTheSumOrOnlyTheNormIsUsed) {
  Parts parts(1);
  const TensorId x = parts.Linear(parts.Embedding(), kH);
  const auto sum = parts.AddNorm(x, parts.Linear(x, kH));
  const auto normed = parts.AddNorm(sum[0], parts.Linear(sum[0], kH));
  Check(parts.Finish(normed[1]));
}

// Both weights of one op are one parameter, which already has a gradient.
TEST(Gradients, OneWeightNormsQueriesAndKeysOfTwoLayers) {
  Parts parts(1);
  parts.UseFreshWeightsOnly();
  const TensorId x = parts.Embedding(), weight = parts.Weight({kD});
  const auto first = parts.QueriesKeysValues(x, weight);
  const TensorId y = parts.AddNorm(x, parts.Attention(first.q, first.k, first.qkv))[1];
  const auto second = parts.QueriesKeysValues(y, weight);
  Check(parts.Finish(parts.AddNorm(y, parts.Attention(second.q, second.k, second.qkv))[1]));
}

// Random graphs of all these parts; each part draws its operands from everything made so far.
class RandomGraphs : public testing::TestWithParam<uint32_t> {};

TEST_P(RandomGraphs, AgreeWithFiniteDifferences) {
  Parts parts(GetParam());
  std::vector<TensorId> made = {parts.Embedding()}, gate_ups;
  std::vector<Parts::Heads> heads;
  const auto any = [&](const auto& list) { return list[parts.Random(list.size())]; };
  for (int i = 0; i < 7; ++i) {
    const int part = parts.Random(5);
    if (part == 0) made.push_back(parts.Linear(any(made), kH));
    if (part == 1 || part == 2) {
      const auto out = parts.AddNorm(any(made), part == 1 ? kNone : any(made));
      if (part == 2) made.push_back(out[0]);
      made.push_back(out[1]);
    }
    if (part == 3) {
      if (gate_ups.empty() || parts.Random(2) == 0) gate_ups.push_back(parts.Linear(any(made), 2 * kF));
      made.push_back(parts.Linear(parts.Swiglu(any(gate_ups)), kH));
    }
    if (part == 4) {
      if (heads.empty() || parts.Random(2) == 0) heads.push_back(parts.QueriesKeysValues(any(made)));
      const Parts::Heads source = any(heads);
      made.push_back(parts.Attention(any(heads).q, source.k, source.qkv));
    }
  }
  Check(parts.Finish(parts.AddNorm(made.back(), any(made))[1]));
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomGraphs, testing::Range(0u, 40u));

TEST(Gradients, OfTheWholeModel) {
  for (const bool moe : {false, true}) {
    HunyuanLmShape shape = model_testing::SmallShape(moe, /*tied=*/true);
    shape.moe_topk = shape.num_experts;  // choosing fewer is discontinuous
    const Graph graph = BuildHunyuanLmTraining(shape, model_testing::kSmallBatch, {false, true, false});
    GraphPlayer player(graph);
    player.FillParameters(1, 0.25f);
    player.FillTextInputs(2, model_testing::kSmallBatch.sequence, 80);
    CheckGradients(graph, player);
  }
}

}  // namespace
}  // namespace angel_ptm
