// Images in graphs: gradients through convolutions and group norms, and what a graph's digest says of them.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/model/denoising_loss.h"
#include "angel_ptm/model/graph_builder.h"
#include "tests/model/check_gradients.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {
namespace {

// Two images through all variants of a convolution, one of whose weights is used twice.
Graph ImageGraph() {
  constexpr int64_t kImages = 2, kHeight = 4, kWidth = 6, kChannels = 4;
  GraphBuilder builder("images");
  const UnitId unit = builder.AddUnit("all");
  const auto parameter = [&](const std::string& name, Shape shape) {
    return builder.AddParameter(unit, name, std::move(shape), InitialValues::Normal(1), false, {});
  };
  OpAttrs attrs{.height = kHeight, .width = kWidth, .kernel = 3, .pad_before = 1, .pad_after = 1};
  const auto convolve = [&](const char* name, TensorId x, TensorId weight) {
    return builder.Append(OpKind::kConv2d, name, {x, weight, parameter(absl::StrCat(name, ".bias"), {kChannels})},
                          attrs)[0];
  };
  const auto norm = [&](const char* name, TensorId x, bool silu) {
    const TensorId weight = parameter(absl::StrCat(name, ".weight"), {kChannels});
    return builder.Append(OpKind::kGroupNorm, name, {x, weight, parameter(absl::StrCat(name, ".shift"), {kChannels})},
                          {.epsilon = 1e-5f, .rows = kImages, .groups = 2, .silu = silu})[0];
  };
  const TensorId shared = parameter("shared.weight", {kChannels, kChannels, 3, 3});
  const TensorId image = builder.AddInput("image", {kImages * kHeight * kWidth, 3}, DType::kFloat32);
  TensorId x = convolve("in", image, parameter("in.weight", {kChannels, 3, 3, 3}));
  x = builder.Append(OpKind::kAddRows, "sum", {x, convolve("shared", norm("norm1", x, true), shared)})[0];
  attrs.stride = 2, attrs.pad_before = 0;
  x = convolve("halved", x, shared);
  attrs.height /= 2, attrs.width /= 2;
  attrs.stride = 1, attrs.pad_before = 1, attrs.upsample = 2;
  x = convolve("doubled", norm("norm2", x, false), parameter("doubled.weight", {kChannels, kChannels, 3, 3}));
  AppendDenoisingLoss(builder, x, kImages);
  AppendBackward(builder, {});
  return builder.Build();
}

void FillFloats(const Graph& graph, GraphPlayer& player) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (TensorId t = 0; t < static_cast<TensorId>(graph.tensors.size()); ++t) {
    if (graph.tensors[t].tensor_class != TensorClass::kInput) continue;
    for (int64_t i = 0; i < player.Elements(t); ++i) player.Floats(t)[i] = normal(random);
  }
}

TEST(ImageGraphTest, GradientsAgreeWithFiniteDifferences) {
  const Graph graph = ImageGraph();
  GraphPlayer player(graph);
  player.FillParameters(1, 0.3f);
  FillFloats(graph, player);
  CheckGradients(graph, player);
}

TEST(ImageGraphTest, HowAnImageIsReadIsPartOfTheDigest) {
  const Graph graph = ImageGraph();
  std::set<uint64_t> digests = {Hash(graph)};
  for (int64_t OpAttrs::*field : {&OpAttrs::height, &OpAttrs::width, &OpAttrs::stride, &OpAttrs::pad_before,
                                  &OpAttrs::pad_after, &OpAttrs::upsample, &OpAttrs::groups}) {
    Graph other = graph;
    for (Op& op : other.ops) op.attrs.*field += op.kind == OpKind::kConv2d || op.kind == OpKind::kGroupNorm ? 1 : 0;
    EXPECT_TRUE(digests.insert(Hash(other)).second);
  }
  Graph other = graph;
  for (Op& op : other.ops) op.attrs.silu = !op.attrs.silu;
  EXPECT_TRUE(digests.insert(Hash(other)).second);
}

}  // namespace
}  // namespace angel_ptm
