// The diffusion transformer's graph: gradients, recomputation, sharing and conditioning.
#include "angel_ptm/model/dit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "angel_ptm/model/patches.h"
#include "tests/model/check_gradients.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {
namespace {

constexpr int64_t kImages = 3;

DitShape Captioned() {
  return {.channels = 2,
          .height = 6,
          .width = 4,
          .patch_size = 2,
          .hidden_size = 16,
          .intermediate_size = 24,
          .num_hidden_layers = 2,
          .num_attention_heads = 2,
          .text_vocab_size = 10,
          .text_length = 5,
          .text_hidden_size = 8,
          .text_num_hidden_layers = 1,
          .text_num_attention_heads = 2};
}

DitShape Classed() {
  DitShape shape = Captioned();
  shape.class_count = 4;
  shape.text_vocab_size = shape.text_length = shape.text_hidden_size = shape.text_num_hidden_layers = 0;
  return shape;
}

DitShape OfVariance() {
  DitShape shape = Classed();
  shape.learn_variance = true;
  return shape;
}

std::vector<bool> Blocks(const DitShape& shape, bool recompute) { return std::vector<bool>(shape.blocks(), recompute); }

void FillInputs(const Graph& graph, const DitShape& shape, GraphPlayer& player) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (TensorId t = 0; t < static_cast<TensorId>(graph.tensors.size()); ++t) {
    const Tensor& tensor = graph.tensors[t];
    if (tensor.tensor_class != TensorClass::kInput) continue;
    for (int64_t i = 0; i < player.Elements(t); ++i) {
      if (tensor.dtype == DType::kFloat32) {
        player.Floats(t)[i] = normal(random);
      } else if (tensor.name == "token_counts") {
        player.Ints(t)[i] = static_cast<int32_t>(1 + i * 2 % shape.text_length);
      } else {
        const int64_t most = shape.reads_captions() ? shape.text_vocab_size : shape.class_count;
        player.Ints(t)[i] = static_cast<int32_t>(random() % static_cast<uint32_t>(most + 1));
      }
    }
  }
  if (shape.learn_variance) FillBounds(graph, player);
  const TensorId table = graph.FindTensor("cos_sin");
  RopeTable2d(shape.grid_height(), shape.grid_width(), shape.head_dim(), 100,
              {player.Floats(table), static_cast<size_t>(player.Elements(table))});
}

class DitTest : public testing::TestWithParam<DitShape> {};

TEST_P(DitTest, GradientsAgreeWithFiniteDifferences) {
  const Graph graph = BuildDitTraining(GetParam(), kImages, Blocks(GetParam(), false));
  for (const TensorId gradient : graph.gradient_tensors) EXPECT_NE(gradient, kNone);
  GraphPlayer player(graph);
  player.FillParameters(1, 0.25f);
  FillInputs(graph, GetParam(), player);
  CheckGradients(graph, player);
}

TEST_P(DitTest, RecomputationChangesNoBit) {
  const Graph kept = BuildDitTraining(GetParam(), kImages, Blocks(GetParam(), false));
  const Graph again = BuildDitTraining(GetParam(), kImages, Blocks(GetParam(), true), kept.table);
  const Graph evaluation = BuildDitEvaluation(GetParam(), kImages, kept.table);
  GraphPlayer a(kept), b(again), c(evaluation);
  for (GraphPlayer* player : {&a, &b, &c}) player->FillParameters(1, 0.25f);
  FillInputs(kept, GetParam(), a);
  FillInputs(again, GetParam(), b);
  FillInputs(evaluation, GetParam(), c);
  const double loss = a.Run();
  EXPECT_EQ(loss, b.Run());
  EXPECT_EQ(loss, c.Run());
  EXPECT_NE(loss, 0);
  size_t recomputed = 0;
  for (const Op& op : again.ops) recomputed += op.phase == Phase::kRecompute ? 1 : 0;
  EXPECT_GT(recomputed, 20u);
  for (size_t p = 0; p < kept.parameters().size(); ++p) {
    EXPECT_EQ(a.Values(kept.gradient_tensors[p]), b.Values(again.gradient_tensors[p])) << kept.parameters()[p].name;
  }
}

// The gradients of what all modulations read, and of fused projections, are written in place, column by column.
TEST_P(DitTest, ColumnsNeedNoCopies) {
  const Graph graph = BuildDitTraining(GetParam(), kImages, Blocks(GetParam(), false));
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kAdd) continue;
    EXPECT_EQ(op.attrs.column_end, 0) << graph.tensors[op.outputs[0]].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Conditions, DitTest, testing::Values(Captioned(), Classed(), OfVariance()),
                         [](const auto& test) {
                           return test.param.learn_variance     ? "Variance"
                                  : test.param.reads_captions() ? "Captions"
                                                                : "Classes";
                         });

// adaLN-Zero: initially every block is the identity and the output zero, so the loss is the target's mean square.
TEST(Dit, StartsWithTheZeroPrediction) {
  const DitShape shape = Captioned();
  const Graph graph = BuildDitEvaluation(shape, kImages);
  GraphPlayer player(graph);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    const InitialValues initial = graph.parameters()[p].initial;
    const TensorId t = graph.parameter_tensors[p];
    for (int64_t i = 0; i < player.Elements(t); ++i) {
      player.Floats(t)[i] = initial.ones ? 1.0f : initial.stddev * normal(random);
    }
  }
  FillInputs(graph, shape, player);
  const TensorId target = graph.FindTensor("target"), weight = graph.FindTensor("sample_weight");
  const int64_t n = player.Elements(target) / kImages;
  double want = 0;
  for (int64_t i = 0; i < kImages * n; ++i) {
    const double value = static_cast<double>(player.Floats(target)[i]);
    want += static_cast<double>(player.Floats(weight)[i / n]) * value * value / static_cast<double>(n);
  }
  EXPECT_NEAR(player.Run(), want, 1e-5 * std::abs(want));
}

TEST(Dit, FrozenTextHasNoGradients) {
  DitShape shape = Captioned();
  shape.freeze = {"text.*"};
  const Graph graph = BuildDitTraining(shape, kImages, Blocks(shape, false));
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    const bool of_text = graph.units()[graph.parameters()[p].unit].name.starts_with("text.");
    EXPECT_EQ(graph.gradient_tensors[p] == kNone, of_text) << graph.parameters()[p].name;
  }
}

TEST(Patches, AreCutFromTheTopLeftAndPutBack) {
  const PatchGrid grid{.channels = 2, .height = 4, .width = 6, .patch = 2};
  std::vector<float> image(grid.elements()), patches(image.size()), back(image.size());
  std::iota(image.begin(), image.end(), 0.0f);
  ToPatches(grid, image, patches);
  EXPECT_EQ(std::vector(patches.begin(), patches.begin() + 16),
            (std::vector<float>{0, 1, 6, 7, 24, 25, 30, 31, 2, 3, 8, 9, 26, 27, 32, 33}));
  FromPatches(grid, patches, back);
  EXPECT_EQ(image, back);
}

// The product of a query and a key depends only on their distances in rows and in columns.
TEST(Patches, RopeTurnsByDistance) {
  const int64_t rows = 4, columns = 5, d = 8;
  std::vector<float> table(rows * columns * d);
  RopeTable2d(rows, columns, d, 50, table);
  const auto turned = [&](int64_t row, int64_t column) {
    std::vector<double> v(d);
    for (int64_t i = 0; i < d / 2; ++i) {
      const float* angle = &table[((row * columns + column) * (d / 2) + i) * 2];
      const double a = 0.3 + static_cast<double>(i), b = 1 - 0.2 * static_cast<double>(i);
      v[i] = a * static_cast<double>(angle[0]) - b * static_cast<double>(angle[1]);
      v[i + d / 2] = b * static_cast<double>(angle[0]) + a * static_cast<double>(angle[1]);
    }
    return v;
  };
  const auto product = [&](int64_t r0, int64_t c0, int64_t r1, int64_t c1) {
    const std::vector<double> a = turned(r0, c0), b = turned(r1, c1);
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  EXPECT_NEAR(product(0, 0, 2, 3), product(1, 1, 3, 4), 1e-5);
  EXPECT_GT(std::abs(product(0, 0, 2, 3) - product(0, 0, 3, 2)), 1e-2);
  EXPECT_GT(std::abs(product(0, 0, 0, 1) - product(0, 0, 1, 0)), 1e-2);
}

TEST(Patches, TimesAreCosinesThenSines) {
  std::vector<float> features(4);
  TimeFeatures(2, features);
  EXPECT_NEAR(features[0], std::cos(2.0), 1e-6);
  EXPECT_NEAR(features[1], std::cos(2.0 / 100), 1e-6);
  EXPECT_NEAR(features[2], std::sin(2.0), 1e-6);
  EXPECT_NEAR(features[3], std::sin(2.0 / 100), 1e-6);
}

}  // namespace
}  // namespace angel_ptm
