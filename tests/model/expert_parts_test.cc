// Graphs on parts of the experts: gradients, the estimated cost of an op, and the digest.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/model/graph_builder.h"
#include "tests/model/check_gradients.h"
#include "tests/model/graph_player.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

constexpr int64_t kPartsT = 8, kPartsH = 8, kPartsV = 11, kPartsE = 4;

// y = the sum over experts [0, e), [e, 2 e) and so on, each part added to those before it. e = kPartsE: all in one op,
// without a first expert.
Graph GraphOfParts(int64_t e, int64_t k, int64_t block_rows) {
  GraphBuilder builder("parts");
  const auto parameter = [&](const std::string& name, Shape shape) {
    return builder.AddParameter(builder.AddUnit(name), name, std::move(shape), InitialValues::Normal(1), true, {});
  };
  const TensorId tokens = builder.AddInput("tokens", {kPartsT}, DType::kInt32);
  const TensorId targets = builder.AddInput("targets", {kPartsT}, DType::kInt32);
  const TensorId experts = builder.AddInput("experts", {kPartsT, k}, DType::kInt32);
  const TensorId x = builder.Append(OpKind::kEmbedding, "x", {parameter("table", {kPartsV, kPartsH}), tokens})[0];
  const TensorId weights = parameter("weights", {kPartsT, k});
  const bool whole = e == kPartsE;
  TensorId y = kNone;
  for (int64_t first = 0; first < kPartsE; first += e) {
    const std::string name = absl::StrCat("part", first, ".");
    const OpAttrs attrs{.experts = e, .topk = k, .block_rows = block_rows, .experts_of_all = whole ? 0 : kPartsE};
    OpAttrs trans = attrs;
    trans.trans_b = true;
    const TensorId begin = whole ? kNone : builder.AddInput(absl::StrCat("first", first), {1}, DType::kInt32);
    const auto layout = builder.Append(OpKind::kExpertLayout, name + "layout", {experts, begin}, attrs);
    const TensorId rows = builder.Append(OpKind::kDispatch, name + "rows", {x, layout[1], layout[3]}, attrs)[0];
    const TensorId w = parameter(name + "w", {e, kPartsH, kPartsH});
    const TensorId out =
        builder.Append(OpKind::kGroupedMatmul, name + "out", {rows, w, layout[2], layout[3]}, trans)[0];
    y = builder.Append(OpKind::kCombine, name + "y", {y, out, weights, layout[0]}, attrs)[0];
  }
  builder.Append(OpKind::kLinearCrossEntropy, "loss", {y, parameter("head", {kPartsV, kPartsH}), targets},
                 {.chunk_tokens = 4});
  builder.graph().loss = static_cast<OpId>(builder.graph().ops.size()) - 1;
  AppendBackward(builder, {});
  return builder.Build();
}

// Token t chooses `choices` shifted by t, in a circle.
void CheckParts(int64_t e, int64_t k, const std::vector<int32_t>& choices) {
  const Graph graph = GraphOfParts(e, k, /*block_rows=*/4);
  GraphPlayer player(graph);
  player.FillParameters(1, 0.5f);
  player.FillTextInputs(2, kPartsT, kPartsV);
  for (int64_t pair = 0; pair < kPartsT * k; ++pair) {
    const auto choice = static_cast<size_t>(pair / k + pair % k) % choices.size();
    player.Ints(graph.FindTensor("experts"))[pair] = choices[choice];
  }
  for (int64_t first = 0; first < kPartsE && e < kPartsE; first += e) {
    *player.Ints(graph.FindTensor(absl::StrCat("first", first))) = static_cast<int32_t>(first);
  }
  CheckGradients(graph, player);
  if (testing::Test::HasFailure()) FAIL() << ToText(graph);
}

TEST(ExpertPartsGraphTest, GradientsAgreeWithFiniteDifferences) {
  CheckParts(2, 2, {0, 3, 2, 1});  // choices in both parts, or in one
  CheckParts(1, 2, {0, 3, 2, 1});
  CheckParts(1, 3, {0, 3, 2, 1});
  CheckParts(2, 2, {0, 1});  // nothing for the second part
  CheckParts(2, 2, {3, 2});  // nor for the first, whose sum is zero
  CheckParts(kPartsE, 2, {0, 3, 2, 1});
}

std::vector<OpCost> Costs(const Graph& graph, OpKind kind) {
  std::vector<OpCost> costs;
  for (const Op& op : graph.ops) {
    if (op.kind == kind) costs.push_back(CostOf(graph, op));
  }
  return costs;
}

// With blocks of one row nothing is rounded up: all parts together cost what all experts cost.
TEST(ExpertPartsGraphTest, PartsCostTheirShareOfTheRows) {
  for (const int64_t k : {2, 3}) {
    const Graph whole = GraphOfParts(kPartsE, k, /*block_rows=*/1);
    for (const int64_t e : {1, 2}) {
      const Graph parts = GraphOfParts(e, k, /*block_rows=*/1);
      for (const OpKind kind :
           {OpKind::kGroupedMatmul, OpKind::kGroupedMatmulGradWeight, OpKind::kDispatch, OpKind::kCombineGrad}) {
        const std::vector<OpCost> all = Costs(whole, kind), some = Costs(parts, kind);
        OpCost want, got;
        for (const OpCost& cost : all) want.flops += cost.flops, want.bytes += cost.bytes;
        for (const OpCost& cost : some) got.flops += cost.flops, got.bytes += cost.bytes;
        EXPECT_EQ(some.size(), all.size() * static_cast<size_t>(kPartsE / e));
        EXPECT_DOUBLE_EQ(got.flops, want.flops) << Name(kind) << " of parts of " << e << ", " << k << " choices";
        EXPECT_DOUBLE_EQ(got.bytes, want.bytes) << Name(kind) << " of parts of " << e << ", " << k << " choices";
      }
      const double pairs = static_cast<double>(kPartsT * k * e) / kPartsE, tokens = kPartsT;
      const std::vector<OpCost> combines = Costs(parts, OpKind::kCombine);
      EXPECT_DOUBLE_EQ(combines[0].bytes, 4 * kPartsH * (tokens + pairs));
      EXPECT_DOUBLE_EQ(combines[1].bytes, 4 * kPartsH * (2 * tokens + pairs));
    }
  }
}

// Graphs without parts keep the digest that they had before there were parts.
TEST(ExpertPartsGraphTest, OnlyPartsAreInTheDigest) {
  const Graph whole = GraphOfParts(kPartsE, 2, 4);
  Graph before = whole, with_first = whole, share = whole;
  const auto layout_of = [](Graph& graph) -> Op& {
    return *std::ranges::find(graph.ops, OpKind::kExpertLayout, &Op::kind);
  };
  layout_of(before).inputs.pop_back();
  EXPECT_EQ(Hash(before), Hash(whole));
  layout_of(with_first).inputs[1] = 0;
  EXPECT_NE(Hash(with_first), Hash(whole));
  layout_of(share).attrs.experts_of_all = 2 * kPartsE;
  EXPECT_NE(Hash(share), Hash(whole));
}

}  // namespace
}  // namespace angel_ptm
