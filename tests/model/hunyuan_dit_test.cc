// Hunyuan-DiT's graph: gradients, recomputation, its size, its positions and which rows of texts it reads.
#include "angel_ptm/model/hunyuan_dit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "angel_ptm/model/patches.h"
#include "tests/model/check_gradients.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLatents = 2;

// One long skip connection, from the first block to the last.
HunyuanDitShape Tiny(bool version1) {
  return {.channels = 2,
          .height = 4,
          .width = 6,
          .patch_size = 2,
          .hidden_size = 16,
          .intermediate_size = 20,
          .num_hidden_layers = 4,
          .num_attention_heads = 2,
          .clip_hidden_size = 6,
          .clip_length = 3,
          .t5_hidden_size = 16,
          .t5_length = 2,
          .pooled_size = 5,
          .learn_sigma = !version1,
          .size_and_style = version1};
}

HunyuanDitShape TinyControl(bool version1) {
  HunyuanDitShape shape = Tiny(version1);
  shape.control = true;
  return shape;
}

std::vector<bool> AllBlocks(const HunyuanDitShape& shape, bool recompute) {
  return std::vector<bool>(static_cast<size_t>(shape.recomputable_blocks()), recompute);
}

// In each sample, some rows of both texts are padding.
void FillLatentInputs(const Graph& graph, const HunyuanDitShape& shape, GraphPlayer& player) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (TensorId t = 0; t < static_cast<TensorId>(graph.tensors.size()); ++t) {
    const Tensor& tensor = graph.tensors[t];
    if (tensor.tensor_class != TensorClass::kInput) continue;
    for (int64_t i = 0; i < player.Elements(t); ++i) {
      if (tensor.dtype == DType::kInt32) player.Ints(t)[i] = 0;
      if (tensor.dtype == DType::kFloat32) player.Floats(t)[i] = normal(random);
    }
  }
  if (shape.variance_in_loss) FillBounds(graph, player);
  const TensorId table = graph.FindTensor("cos_sin"), rows = graph.FindTensor("text_rows");
  HunyuanRopeTable(shape, {player.Floats(table), static_cast<size_t>(player.Elements(table))});
  const std::vector<int32_t> keep = {1, 0, 1, 1, 0};
  for (int64_t row = 0; row < kLatents; ++row) {
    HunyuanTextRows(shape, kLatents, row, keep, {player.Ints(rows) + row * shape.text_length(), keep.size()});
  }
}

// Biases are around zero, so that the loss is small enough for finite differences in fp32.
void FillWeights(const Graph& graph, GraphPlayer& player, uint32_t seed = 1) {
  player.FillParameters(seed, 0.25f);
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    const TensorId t = graph.parameter_tensors[p];
    if (!graph.parameters()[p].name.ends_with(".bias")) continue;
    for (int64_t i = 0; i < player.Elements(t); ++i) player.Floats(t)[i] -= 1;
  }
}

class HunyuanDitTest : public testing::TestWithParam<bool> {};

TEST_P(HunyuanDitTest, GradientsAgreeWithFiniteDifferences) {
  const HunyuanDitShape shape = Tiny(GetParam());
  const Graph graph = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  for (const TensorId gradient : graph.gradient_tensors) EXPECT_NE(gradient, kNone);
  GraphPlayer player(graph);
  FillWeights(graph, player);
  FillLatentInputs(graph, shape, player);
  CheckGradients(graph, player);
}

TEST_P(HunyuanDitTest, RecomputationChangesNoBit) {
  const HunyuanDitShape shape = Tiny(GetParam());
  const Graph kept = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  const Graph again = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, true), kept.table);
  const Graph evaluation = BuildHunyuanDitEvaluation(shape, kLatents, kept.table);
  GraphPlayer a(kept), b(again), c(evaluation);
  FillWeights(kept, a);
  FillWeights(again, b);
  FillWeights(evaluation, c);
  FillLatentInputs(kept, shape, a);
  FillLatentInputs(again, shape, b);
  FillLatentInputs(evaluation, shape, c);
  const double loss = a.Run();
  EXPECT_EQ(loss, b.Run());
  EXPECT_EQ(loss, c.Run());
  EXPECT_NE(loss, 0);
  size_t recomputed = 0;
  for (const Op& op : again.ops) recomputed += op.phase == Phase::kRecompute ? 1 : 0;
  EXPECT_GT(recomputed, 40u);
  for (size_t p = 0; p < kept.parameters().size(); ++p) {
    EXPECT_EQ(a.Values(kept.gradient_tensors[p]), b.Values(again.gradient_tensors[p])) << kept.parameters()[p].name;
  }
}

// The gradient of the row in the last layer that produces the variance fraction of a pixel's first channel.
std::vector<float> FractionGradient(const HunyuanDitShape& shape) {
  const Graph graph = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  GraphPlayer player(graph);
  FillWeights(graph, player);
  FillLatentInputs(graph, shape, player);
  player.Run();
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    if (graph.parameters()[p].name != "proj_out.weight") continue;
    const std::vector<float> all = player.Values(graph.gradient_tensors[p]);
    const auto row = all.begin() + shape.channels * shape.hidden_size;
    return {row, row + shape.hidden_size};
  }
  ADD_FAILURE() << "no last layer";
  return {};
}

TEST(HunyuanDit, TheVarianceIsTrainedIfItIsInTheLoss) {
  HunyuanDitShape shape = Tiny(false);
  EXPECT_EQ(FractionGradient(shape), std::vector<float>(static_cast<size_t>(shape.hidden_size), 0.0f));
  shape.variance_in_loss = true;
  EXPECT_NE(FractionGradient(shape), std::vector<float>(static_cast<size_t>(shape.hidden_size), 0.0f));
  const Graph graph = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  const Graph again = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, true), graph.table);
  GraphPlayer player(graph), recomputed(again);
  FillWeights(graph, player);
  FillWeights(again, recomputed);
  FillLatentInputs(graph, shape, player);
  FillLatentInputs(again, shape, recomputed);
  EXPECT_EQ(player.Run(), recomputed.Run());
  CheckGradients(graph, player);
}

TEST_P(HunyuanDitTest, TheBranchAloneHasGradients) {
  const HunyuanDitShape shape = TinyControl(GetParam());
  const Graph graph = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    const std::string& unit = graph.units()[graph.parameters()[p].unit].name;
    const bool copied = unit == "control.blocks.0";
    EXPECT_EQ(graph.gradient_tensors[p] != kNone, copied || unit == "control.input" || unit == "control.projections.0")
        << graph.parameters()[p].name;
  }
  // Only what passes gradients to the branch has backward ops: block 3 and the head of the base.
  for (const Op& op : graph.ops) {
    if (op.phase != Phase::kBackward) continue;
    const std::string& name = graph.tensors[NamingOutput(op)].name;
    for (const char* below : {"blocks.0.", "blocks.1.", "blocks.2.", "embedded", "time_extra_emb", "text"}) {
      EXPECT_FALSE(name.starts_with(std::string("d ") + below)) << name;
    }
  }
  GraphPlayer player(graph);
  FillWeights(graph, player, /*seed=*/9);  // the loss is small with these
  FillLatentInputs(graph, shape, player);
  CheckGradients(graph, player);
}

TEST_P(HunyuanDitTest, RecomputationOfTheBranchChangesNoBit) {
  HunyuanDitShape shape = TinyControl(GetParam());
  shape.num_hidden_layers = 6;
  const Graph kept = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, false));
  const Graph again = BuildHunyuanDitTraining(shape, kLatents, AllBlocks(shape, true), kept.table);
  GraphPlayer a(kept), b(again);
  FillWeights(kept, a);
  FillWeights(again, b);
  FillLatentInputs(kept, shape, a);
  FillLatentInputs(again, shape, b);
  EXPECT_EQ(a.Run(), b.Run());
  std::vector<int> recomputed(AllBlocks(shape, true).size());
  for (const Op& op : again.ops) {
    if (op.phase == Phase::kRecompute) ++recomputed[static_cast<size_t>(op.block)];
  }
  for (const int ops : recomputed) EXPECT_GT(ops, 5);
  for (size_t p = 0; p < kept.parameters().size(); ++p) {
    if (kept.gradient_tensors[p] == kNone) continue;
    EXPECT_EQ(a.Values(kept.gradient_tensors[p]), b.Values(again.gradient_tensors[p])) << kept.parameters()[p].name;
  }
}

// Each parameter of the branch lies in its unit where the base's parameter, which it is initialised from, lies in the
// base's unit.
TEST_P(HunyuanDitTest, UnitsOfTheBranchAreCopiesOrZeros) {
  const auto table = HunyuanDitParameters(TinyControl(GetParam()));
  std::vector<std::string> zeros;
  for (UnitId u = 0; u < static_cast<UnitId>(table->units.size()); ++u) {
    const Unit& unit = table->units[u];
    const UnitId source = HunyuanControlSource(*table, u);
    if (!IsOfControl(unit)) {
      EXPECT_EQ(source, kNone);
      continue;
    }
    if (source == kNone) {
      zeros.push_back(unit.name);
      for (const ParameterId p : unit.parameters) EXPECT_EQ(table->parameters[p].initial, InitialValues::Normal(0));
      continue;
    }
    const Unit& of_base = table->units[source];
    ASSERT_EQ(unit.parameters.size(), of_base.parameters.size()) << unit.name;
    EXPECT_EQ(unit.elements, of_base.elements);
    for (size_t i = 0; i < unit.parameters.size(); ++i) {
      const Parameter &copy = table->parameters[unit.parameters[i]], &from = table->parameters[of_base.parameters[i]];
      EXPECT_EQ(copy.name, kControlNames + from.name);
      EXPECT_EQ(copy.shape, from.shape);
      EXPECT_EQ(copy.unit_offset, from.unit_offset);
    }
  }
  EXPECT_EQ(zeros, (std::vector<std::string>{"control.input", "control.projections.0"}));
}

// The prediction with random weights in the base, copies of them in the branch, and `projection` in the branch's
// projections.
std::vector<float> PredictionWithBranch(const HunyuanDitShape& shape, float projection, float scale) {
  const Graph graph = BuildHunyuanDitForward(shape, kLatents);
  GraphPlayer player(graph);
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 0.3f);
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    const Parameter& parameter = graph.parameters()[p];
    const TensorId t = graph.parameter_tensors[p];
    if (!IsOfControl(graph.units()[parameter.unit])) {
      for (int64_t i = 0; i < player.Elements(t); ++i) player.Floats(t)[i] = normal(random);
    } else if (HunyuanControlSource(*graph.table, parameter.unit) == kNone) {
      std::fill_n(player.Floats(t), player.Elements(t), projection);
    } else {
      const TensorId from = graph.FindTensor(parameter.name.substr(std::string_view(kControlNames).size()));
      std::copy_n(player.Floats(from), player.Elements(t), player.Floats(t));
    }
  }
  FillLatentInputs(graph, shape, player);
  // Takes the inputs that the base alone would get, because inputs are drawn in the order of the graph.
  HunyuanDitShape base = shape;
  base.control = false;
  const Graph alone = BuildHunyuanDitForward(base, kLatents);
  GraphPlayer inputs(alone);
  FillLatentInputs(alone, base, inputs);
  for (const Tensor& tensor : alone.tensors) {
    if (tensor.tensor_class != TensorClass::kInput || tensor.dtype != DType::kFloat32) continue;
    const TensorId from = alone.FindTensor(tensor.name), to = graph.FindTensor(tensor.name);
    std::copy_n(inputs.Floats(from), inputs.Elements(from), player.Floats(to));
  }
  if (shape.control) {
    const TensorId t = graph.FindTensor("control_scale");
    std::fill_n(player.Floats(t), player.Elements(t), scale);
  }
  player.Run();
  return player.Values(graph.FindTensor("prediction"));
}

TEST_P(HunyuanDitTest, ABranchBeginsWithoutEffectAndIsScaled) {
  const std::vector<float> base = PredictionWithBranch(Tiny(GetParam()), 0, 1);
  EXPECT_NE(base, std::vector<float>(base.size()));
  const HunyuanDitShape shape = TinyControl(GetParam());
  EXPECT_EQ(PredictionWithBranch(shape, 0, 1), base);
  const std::vector<float> controlled = PredictionWithBranch(shape, 0.125f, 1);
  EXPECT_NE(controlled, base);
  EXPECT_EQ(PredictionWithBranch(shape, 0.125f, 0), base);
  EXPECT_NE(PredictionWithBranch(shape, 0.125f, 0.5f), controlled);
}

// A text's values under padding change nothing.
TEST_P(HunyuanDitTest, PaddingIsNotRead) {
  const HunyuanDitShape shape = Tiny(GetParam());
  const Graph graph = BuildHunyuanDitEvaluation(shape, kLatents);
  GraphPlayer player(graph);
  FillWeights(graph, player);
  FillLatentInputs(graph, shape, player);
  const double loss = player.Run();
  float* const clip = player.Floats(graph.FindTensor("clip"));
  const std::vector<float> before(clip, clip + player.Elements(graph.FindTensor("clip")));
  clip[shape.clip_hidden_size] += 1;  // of the first sample's row 1
  EXPECT_EQ(player.Run(), loss);
  std::copy(before.begin(), before.end(), clip);
  clip[0] += 1;
  EXPECT_NE(player.Run(), loss);
}

// size * sin(0.7 i + a number derived from the name), for element i.
float Wave(const std::string& name, int64_t i, double size) {
  const double start = std::accumulate(name.begin(), name.end(), 0.0);
  return static_cast<float>(size * std::sin(0.7 * static_cast<double>(i) + start));
}

std::vector<float> Wave(const std::string& name, int64_t elements) {
  std::vector<float> values(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) values[static_cast<size_t>(i)] = Wave(name, i, 1);
  return values;
}

// The prediction [kLatents, channels, height, width] on inputs that are waves, with waves as weights; vectors that
// multiply are waves around one.
std::vector<float> PredictionOfWaves(const HunyuanDitShape& shape) {
  const Graph graph = BuildHunyuanDitEvaluation(shape, kLatents);
  GraphPlayer player(graph);
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    for (const ExportedName& e : graph.parameters()[p].exported) {
      const float middle = e.shape.rank() == 1 && e.name.ends_with("weight") ? 1 : 0;
      float* const values = player.Floats(graph.parameter_tensors[p]) + e.offset;
      for (int64_t i = 0; i < e.shape.elements(); ++i) values[i] = middle + Wave(e.name, i, 0.3);
    }
  }
  FillLatentInputs(graph, shape, player);
  const auto write = [&](const char* name, const std::vector<float>& values) {
    std::copy(values.begin(), values.end(), player.Floats(graph.FindTensor(name)));
  };
  write("clip", Wave("clip", kLatents * shape.clip_length * shape.clip_hidden_size));
  write("t5", Wave("t5", kLatents * shape.t5_length * shape.t5_hidden_size));
  PatchGrid grid{shape.channels, shape.height, shape.width, shape.patch_size};
  const std::vector<float> latents = Wave("latents", kLatents * grid.elements());
  std::vector<float> noisy(latents.size()), times(kLatents * kHunyuanFeatures);
  std::vector<float> sizes(kLatents * kHunyuanSizes * kHunyuanFeatures);
  for (int64_t row = 0; row < kLatents; ++row) {
    const auto n = static_cast<size_t>(grid.elements());
    ToPatches(grid, std::span(latents).subspan(row * n, n), std::span(noisy).subspan(row * n, n));
    TimeFeatures(row == 0 ? 17 : 801, std::span(times).subspan(row * kHunyuanFeatures, kHunyuanFeatures));
  }
  for (int64_t i = 0; i < kLatents * kHunyuanSizes; ++i) {
    TimeFeatures(100.0 * static_cast<double>(i + 1), std::span(sizes).subspan(i * kHunyuanFeatures, kHunyuanFeatures));
  }
  write("noisy", noisy);
  if (shape.control) {
    const std::vector<float> conditions = Wave("condition", kLatents * grid.elements());
    std::vector<float> patches(conditions.size());
    for (int64_t row = 0; row < kLatents; ++row) {
      const auto n = static_cast<size_t>(grid.elements());
      ToPatches(grid, std::span(conditions).subspan(row * n, n), std::span(patches).subspan(row * n, n));
    }
    write("condition", patches);
  }
  write("time_features", times);
  if (shape.size_and_style) write("size_features", sizes);
  player.Run();
  grid.channels = shape.out_channels();
  grid.channels_last = true;
  const std::vector<float> patches = player.Values(graph.FindTensor("proj_out.y"));
  std::vector<float> images(patches.size());
  for (int64_t row = 0; row < kLatents; ++row) {
    const auto n = static_cast<size_t>(grid.elements());
    FromPatches(grid, std::span(patches).subspan(row * n, n), std::span(images).subspan(row * n, n));
  }
  return images;
}

// Expects that the prediction of waves has this mean magnitude, then these four elements.
void ExpectPrediction(HunyuanDitShape shape, const std::vector<double>& want) {
  shape.num_hidden_layers = 6;  // two long skips, the last one first
  const std::vector<float> got = PredictionOfWaves(shape);
  const auto at = [&](int64_t row, int64_t c, int64_t y, int64_t x) {
    const int64_t channels = shape.out_channels();
    return got[static_cast<size_t>(((row * channels + c) * shape.height + y) * shape.width + x)];
  };
  double magnitude = 0;
  for (const float value : got) magnitude += std::abs(static_cast<double>(value));
  const double tolerance = 1e-4 * want[0];
  EXPECT_NEAR(magnitude / static_cast<double>(got.size()), want[0], tolerance);
  EXPECT_NEAR(at(0, 0, 0, 0), want[1], tolerance);
  EXPECT_NEAR(at(0, 1, 3, 5), want[2], tolerance);
  EXPECT_NEAR(at(1, 0, 2, 1), want[3], tolerance);
  EXPECT_NEAR(at(1, 1, 1, 4), want[4], tolerance);
}

// The numbers are those of diffusers 0.42.1 in double.
TEST_P(HunyuanDitTest, PredictsWhatDiffusersDoes) {
  ExpectPrediction(Tiny(GetParam()), GetParam() ? std::vector{1.6571934, -2.0149072, 1.8154602, -0.1885639, -0.7201506}
                                                : std::vector{0.3236559, -0.0150277, 0.6692247, 0.4985896, -0.0918348});
}

// As above, for HunyuanDiT2DModel with the output of HunyuanDiT2DControlNetModel for the condition.
TEST_P(HunyuanDitTest, PredictsWhatDiffusersDoesWithAControlNet) {
  ExpectPrediction(TinyControl(GetParam()), GetParam()
                                                ? std::vector{1.6857742, -2.2354033, 1.923372, -0.1873135, -0.7203518}
                                                : std::vector{0.3075672, -0.0298015, 0.6303741, 0.4685645, -0.1407727});
}

INSTANTIATE_TEST_SUITE_P(Versions, HunyuanDitTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "UpTo11" : "From12"; });

// The counts that diffusers gives for the released models.
TEST(HunyuanDit, FullModelsHaveTheirParameters) {
  HunyuanDitShape full{.height = 128,
                       .width = 128,
                       .hidden_size = 1408,
                       .intermediate_size = 6144,
                       .num_hidden_layers = 40,
                       .num_attention_heads = 16};
  EXPECT_EQ(HunyuanDitParameters(full)->ParameterCount(), 1499952032);
  full.size_and_style = true;
  EXPECT_EQ(HunyuanDitParameters(full)->ParameterCount(), 1516534048);
  // The count of HunyuanDiT2DControlNetModel.
  full.control = true;
  EXPECT_EQ(HunyuanDitParameters(full)->ParameterCount(), int64_t{1516534048} + 760805312);
}

TEST(HunyuanDit, PlacesAreFittedIntoTheBaseGrid) {
  const HunyuanDitShape shape{.height = 64, .width = 128, .hidden_size = 8, .num_attention_heads = 1};
  std::vector<float> table(static_cast<size_t>(shape.tokens() * shape.head_dim()));
  HunyuanRopeTable(shape, table);
  // The angle of pair 0 in each half is the position: of the column, then of the row.
  const auto place = [&](int64_t row, int64_t column, int64_t half) {
    const float* cos_sin = &table[(row * 64 + column) * 8 + half * 4];
    const double angle = std::atan2(static_cast<double>(cos_sin[1]), static_cast<double>(cos_sin[0]));
    return angle < 0 ? angle + 2 * std::acos(-1.0) : angle;
  };
  EXPECT_NEAR(place(0, 0, 0), 0, 1e-6);
  EXPECT_NEAR(place(0, 5, 0), 2.5, 1e-6);  // 64 columns over 32 positions
  const double turn = 2 * std::acos(-1.0);
  EXPECT_NEAR(place(0, 0, 1), 8 - turn, 1e-6);  // 32 rows over 16 positions, starting at the 8th
  EXPECT_NEAR(place(3, 0, 1), 9.5 - turn, 1e-6);
}

TEST(HunyuanDit, RowsOfTextsAreThoseOfTheTable) {
  const HunyuanDitShape shape{.clip_length = 3, .t5_length = 2};
  std::vector<int32_t> rows(5);
  HunyuanTextRows(shape, /*batch=*/2, /*row=*/1, std::vector<int32_t>{1, 0, 1, 0, 1}, rows);
  // CLIP has rows 0 to 5, T5 rows 6 to 9; rows from 10 on are padding.
  EXPECT_EQ(rows, (std::vector<int32_t>{3, 11, 5, 13, 9}));
}

TEST(HunyuanDit, StartsWithTheZeroPrediction) {
  const HunyuanDitShape shape = Tiny(false);
  const Graph graph = BuildHunyuanDitEvaluation(shape, kLatents);
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
  FillLatentInputs(graph, shape, player);
  EXPECT_NE(player.Run(), 0);
  for (const float value : player.Values(graph.FindTensor("proj_out.y"))) ASSERT_EQ(value, 0);
}

TEST(Patches, MayHaveChannelsLast) {
  const PatchGrid grid{.channels = 2, .height = 2, .width = 4, .patch = 2, .channels_last = true};
  std::vector<float> image(16), patches(16), back(16);
  for (int i = 0; i < 16; ++i) image[i] = static_cast<float>(i);
  ToPatches(grid, image, patches);
  EXPECT_EQ(patches, (std::vector<float>{0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15}));
  FromPatches(grid, patches, back);
  EXPECT_EQ(image, back);
}

}  // namespace
}  // namespace angel_ptm
