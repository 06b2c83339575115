// Compares the Hunyuan graphs with what is known of the published models.
#include "angel_ptm/model/hunyuan_lm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/model/cost.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

using model_testing::A13BShape;
using model_testing::Dense7BShape;
using model_testing::kSmallBatch;
using model_testing::SmallShape;

constexpr HunyuanLmBatch kBatch4K{.rows = 1, .sequence = 4096, .lm_head_chunk_tokens = 512, .expert_block_rows = 64};

// The parameters that one token passes through: all except the experts that it is not routed to.
double ActiveParameters(const Graph& graph, const HunyuanLmShape& shape) {
  double active = 0;
  for (const Parameter& p : graph.parameters()) {
    const Shape& s = p.shape;
    const bool routed = s.rank() == 3;
    active += static_cast<double>(s.elements()) *
              (routed ? static_cast<double>(shape.moe_topk) / static_cast<double>(shape.num_experts) : 1);
  }
  return active;
}

TEST(HunyuanLm, A13BHas80BillionParameters13BillionActive) {
  const Graph graph = BuildHunyuanLmEvaluation(A13BShape(), kBatch4K);
  EXPECT_NEAR(static_cast<double>(graph.table->ParameterCount()), 80.39e9, 0.005e9);
  EXPECT_NEAR(ActiveParameters(graph, A13BShape()), 12.75e9, 0.005e9);
}

TEST(HunyuanLm, Dense7BHas7500MillionParameters) {
  const Graph graph = BuildHunyuanLmEvaluation(Dense7BShape(), kBatch4K);
  EXPECT_NEAR(static_cast<double>(graph.table->ParameterCount()), 7.50e9, 0.01e9);
}

// 6 FLOPs per active weight and token, plus attention's 6 * layers * tokens * sequence * heads * head_dim (half of the
// square, forward and backward). Norm weights take part in no product; an untied embedding table is only looked up.
TEST(HunyuanLm, ModelFlopsAreSixPerActiveParameterAndTokenPlusAttention) {
  for (const HunyuanLmShape& shape : {A13BShape(), Dense7BShape()}) {
    const Graph graph =
        BuildHunyuanLmTraining(shape, kBatch4K, std::vector<bool>(static_cast<size_t>(shape.num_hidden_layers), true));
    const double tokens = static_cast<double>(kBatch4K.rows * kBatch4K.sequence);
    const double products = 6 * ActiveParameters(graph, shape) * tokens;
    const double pairs = tokens * static_cast<double>(kBatch4K.sequence + 1) / 2;
    // Attention has two products forward and five backward.
    const double attention = 7 * 2 * pairs * static_cast<double>(shape.num_attention_heads * shape.head_dim) *
                             static_cast<double>(shape.num_hidden_layers);
    EXPECT_NEAR(ModelFlops(graph) / (products + attention), 1, 0.002);
    EXPECT_GT(products / ModelFlops(graph), 0.9);
  }
}

TEST(ModelFlops, DoNotCountRecomputation) {
  const HunyuanLmShape shape = SmallShape(true, true);
  EXPECT_EQ(ModelFlops(BuildHunyuanLmTraining(shape, kSmallBatch, {false, false, false})),
            ModelFlops(BuildHunyuanLmTraining(shape, kSmallBatch, {true, true, true})));
}

std::set<std::string> HuggingFaceNames(const HunyuanLmShape& shape) {
  std::set<std::string> names = {"model.embed_tokens.weight", "model.norm.weight"};
  if (!shape.tie_word_embeddings) names.insert("lm_head.weight");
  const auto mlp = [&](const std::string& prefix) {
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) names.insert(absl::StrCat(prefix, part, ".weight"));
  };
  for (int64_t i = 0; i < shape.num_hidden_layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      names.insert(absl::StrCat(layer, norm, ".weight"));
    for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj", "query_layernorm", "key_layernorm"}) {
      names.insert(absl::StrCat(layer, "self_attn.", part, ".weight"));
    }
    if (!shape.is_moe()) {
      mlp(layer + "mlp.");
      continue;
    }
    names.insert(layer + "mlp.gate.wg.weight");
    mlp(layer + "mlp.shared_mlp.");
    for (int64_t e = 0; e < shape.num_experts; ++e) mlp(absl::StrCat(layer, "mlp.experts.", e, "."));
  }
  return names;
}

class Family : public ::testing::TestWithParam<std::tuple<bool, bool>> {};  // moe, tied

TEST_P(Family, ExportedNamesAreHuggingFacesAndCoverEveryParameterOnce) {
  const HunyuanLmShape shape = SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam()));
  const Graph graph = BuildHunyuanLmEvaluation(shape, kSmallBatch);
  std::set<std::string> names;
  for (const Parameter& p : graph.parameters()) {
    std::map<int64_t, int64_t> stretches;  // begin -> end
    for (const ExportedName& e : p.exported) {
      EXPECT_TRUE(names.insert(e.name).second) << e.name << " twice";
      EXPECT_TRUE(stretches.emplace(e.offset, e.offset + e.shape.elements()).second);
    }
    int64_t end = 0;
    for (const auto& [begin, stretch_end] : stretches) {
      EXPECT_EQ(begin, end) << p.name;
      end = stretch_end;
    }
    EXPECT_EQ(end, p.shape.elements()) << p.name;
  }
  EXPECT_EQ(names, HuggingFaceNames(shape));
}

TEST_P(Family, UnitsHoldTheirParametersInOrderAndAligned) {
  const Graph graph =
      BuildHunyuanLmEvaluation(SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam())), kSmallBatch);
  size_t parameters = 0;
  for (size_t u = 0; u < graph.units().size(); ++u) {
    int64_t end = 0;
    for (int32_t p : graph.units()[u].parameters) {
      const Parameter& parameter = graph.parameters()[p];
      EXPECT_EQ(parameter.unit, static_cast<UnitId>(u));
      EXPECT_EQ(parameter.unit_offset % kParameterAlignment, 0);
      EXPECT_GE(parameter.unit_offset, end);
      EXPECT_LT(parameter.unit_offset, end + kParameterAlignment);
      end = parameter.unit_offset + parameter.shape.elements();
      ++parameters;
    }
    EXPECT_EQ(graph.units()[u].elements, end);
  }
  EXPECT_EQ(parameters, graph.parameters().size());
}

// Training, evaluation, logits and decoding of one model have the same parameters in the same places.
TEST_P(Family, AllGraphsShareTheirParameters) {
  const HunyuanLmShape shape = SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam()));
  const Graph training = BuildHunyuanLmTraining(shape, kSmallBatch, {false, true, false});
  for (const Graph& other : {BuildHunyuanLmEvaluation(shape, kSmallBatch), BuildHunyuanLmLogits(shape, kSmallBatch),
                             BuildHunyuanLmDecoding(shape, 3, 32, 4)}) {
    ASSERT_EQ(other.parameters().size(), training.parameters().size());
    for (size_t p = 0; p < other.parameters().size(); ++p) {
      const Tensor &a = other.tensors[other.parameter_tensors[p]], &b = training.tensors[training.parameter_tensors[p]];
      EXPECT_EQ(a.name, b.name);
      EXPECT_EQ(a.shape, b.shape);
      EXPECT_EQ(a.unit, b.unit);
      EXPECT_EQ(a.unit_offset, b.unit_offset);
    }
  }
}

TEST_P(Family, EveryLayerReportsItsExpertCounts) {
  const HunyuanLmShape shape = SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam()));
  const Graph graph = BuildHunyuanLmTraining(shape, kSmallBatch, {true, false, true});
  int outputs = 0;
  for (const Tensor& t : graph.tensors) outputs += t.tensor_class == TensorClass::kOutput ? 1 : 0;
  EXPECT_EQ(outputs, 1 + (shape.is_moe() ? shape.num_hidden_layers : 0));
  EXPECT_EQ(graph.tensors[graph.FindTensor("token_loss")].shape, (Shape{20}));
  for (int64_t i = 0; shape.is_moe() && i < shape.num_hidden_layers; ++i) {
    const Tensor& counts = graph.tensors[graph.FindTensor(absl::StrCat("layers.", i, ".mlp.router.counts"))];
    EXPECT_EQ(counts.tensor_class, TensorClass::kOutput);
    EXPECT_EQ(counts.dtype, DType::kInt32);
  }
}

int64_t LargestTensor(const Graph& graph) {
  int64_t elements = 0;
  for (const Tensor& tensor : graph.tensors) elements = std::max(elements, tensor.shape.elements());
  return elements;
}

// The loss works in chunks: no tensor is as large as the logits of all tokens, which the logits graph does hold.
TEST_P(Family, TrainingAndEvaluationNeverHoldAllLogits) {
  HunyuanLmShape shape = SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam()));
  shape.vocab_size = 1000;  // so that nothing else is as large
  const int64_t logits = kSmallBatch.rows * kSmallBatch.sequence * shape.vocab_size;
  EXPECT_LT(LargestTensor(BuildHunyuanLmEvaluation(shape, kSmallBatch)), logits);
  for (const bool recompute : {false, true}) {
    EXPECT_LT(LargestTensor(BuildHunyuanLmTraining(shape, kSmallBatch, std::vector<bool>(3, recompute))), logits);
  }
  EXPECT_EQ(LargestTensor(BuildHunyuanLmLogits(shape, kSmallBatch)), logits);
}

INSTANTIATE_TEST_SUITE_P(Models, Family, ::testing::Combine(::testing::Bool(), ::testing::Bool()));

TEST(HunyuanLm, DecodingKeepsCachesOfAllTokens) {
  const Graph graph = BuildHunyuanLmDecoding(SmallShape(false, true), 3, 32, 4);
  int caches = 0;
  for (const Tensor& t : graph.tensors) {
    if (t.tensor_class != TensorClass::kCache) continue;
    ++caches;
    EXPECT_EQ(t.shape, (Shape{3, 32, 2, 6}));
  }
  EXPECT_EQ(caches, 2 * 3);
  EXPECT_EQ(graph.tensors[graph.FindTensor("logits.c")].shape, (Shape{3, 80}));
}

TEST(GraphHash, SeparatesWhatChangesResults) {
  const HunyuanLmShape shape = SmallShape(true, true);
  std::set<uint64_t> digests;
  const auto add = [&](const HunyuanLmShape& s, const HunyuanLmBatch& b) {
    EXPECT_TRUE(digests.insert(Hash(BuildHunyuanLmTraining(s, b, {false, false, false}))).second);
  };
  add(shape, kSmallBatch);
  HunyuanLmBatch batch = kSmallBatch;
  batch.lm_head_chunk_tokens = 10;
  add(shape, batch);
  batch = kSmallBatch;
  batch.expert_block_rows = 8;
  add(shape, batch);
  HunyuanLmShape other = shape;
  other.rms_norm_eps = 1e-6f;
  add(other, kSmallBatch);
  other = shape;
  other.rope_alpha = 50;
  add(other, kSmallBatch);
  other = shape;
  other.router_aux_loss_coefficient = 0.01f;
  add(other, kSmallBatch);
  other = shape;
  other.initializer_range = 0.01f;
  add(other, kSmallBatch);
  EXPECT_FALSE(digests.insert(Hash(BuildHunyuanLmTraining(shape, kSmallBatch, {false, false, false}))).second);
}

TEST(GraphText, HasALinePerOp) {
  const Graph graph = BuildHunyuanLmTraining(SmallShape(true, true), kSmallBatch, {true, true, true});
  const std::string text = ToText(graph);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<int64_t>(graph.ops.size()) + 1);
  EXPECT_TRUE(
      absl::StrContains(text, "forward Router layers.0.post_attention_norm.y[20, 16] layers.0.mlp.gate[4, 16]"));
}

}  // namespace
}  // namespace angel_ptm
