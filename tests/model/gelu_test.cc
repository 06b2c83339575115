// Gelu in a graph: shapes, and the gradient of an input that another op reads too.
#include <gtest/gtest.h>

#include <vector>

#include "angel_ptm/model/graph_builder.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {
namespace {

TEST(Gelu, BackpropagatesIntoASharedInput) {
  constexpr int64_t kT = 5, kH = 6, kV = 7;
  GraphBuilder builder("gelu");
  const auto weight = [&](const char* name, int64_t rows) {
    return builder.AddParameter(builder.AddUnit(name), name, {rows, kH}, InitialValues::Normal(0.5f), true, {});
  };
  const TensorId tokens = builder.AddInput("tokens", {kT}, DType::kInt32);
  const TensorId targets = builder.AddInput("targets", {kT}, DType::kInt32);
  const TensorId table = weight("table", kV);
  const TensorId x = builder.Append(OpKind::kEmbedding, "x", {table, tokens})[0];
  const TensorId y = builder.Append(OpKind::kGelu, "gelu", {x})[0];
  EXPECT_EQ(builder.graph().tensors[y].shape, (Shape{kT, kH}));
  const TensorId norm = builder.AddParameter(builder.AddUnit("norm"), "norm", {kH}, InitialValues::Ones(), false, {});
  const auto sum = builder.Append(OpKind::kAddRmsNorm, "sum", {x, y, norm}, {.epsilon = 1e-5f});
  builder.Append(OpKind::kLinearCrossEntropy, "loss", {sum[1], weight("head", kV), targets}, {.chunk_tokens = 8});
  builder.graph().loss = static_cast<OpId>(builder.graph().ops.size()) - 1;
  AppendBackward(builder, {});
  const Graph graph = builder.Build();

  GraphPlayer player(graph);
  player.FillParameters(1, 0.8f);
  player.FillTextInputs(2, kT, kV);
  player.Run();
  const std::vector<float> gradient = player.Values(graph.gradient_tensors[0]);
  for (int64_t i = 0; i < player.Elements(table); ++i) {
    float& value = player.Floats(table)[i];
    const float at = value, step = 1e-2f;
    value = at + step;
    const double above = player.Run();
    value = at - step;
    const double below = player.Run();
    value = at;
    EXPECT_NEAR(gradient[i], (above - below) / (2 * static_cast<double>(step)), 2e-3) << i;
  }
}

}  // namespace
}  // namespace angel_ptm
