// The graphs of frozen text encoders: padding and other texts change nothing, every parameter is exported, and
// distances fall into the same buckets as in transformers (tests/parity compares values).
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "angel_ptm/model/bert_encoder.h"
#include "angel_ptm/model/t5_encoder.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBatch = 2, kLength = 7, kVocabulary = 19;

Graph SmallBert() {
  return BuildBertEncoder({.vocab_size = kVocabulary,
                           .hidden_size = 16,
                           .intermediate_size = 24,
                           .num_hidden_layers = 2,
                           .num_attention_heads = 2,
                           .max_position_embeddings = 9},
                          kBatch, kLength);
}
constexpr T5Shape kSmallT5{.vocab_size = kVocabulary,
                           .d_model = 12,
                           .d_kv = 6,
                           .d_ff = 20,
                           .num_layers = 2,
                           .num_heads = 3,
                           .relative_attention_num_buckets = 8,
                           .relative_attention_max_distance = 12};

// Plays the encoder on two texts of 4 and 7 tokens; `pad` follows the first, `other` begins the second.
std::vector<float> StatesOf(const Graph& graph, int32_t pad, int32_t other) {
  GraphPlayer player(graph);
  player.FillParameters(5, 0.4f);
  const auto write = [&](const char* name, const std::vector<int32_t>& values) {
    std::copy(values.begin(), values.end(), player.Ints(graph.FindTensor(name)));
  };
  write("tokens", {3, 1, 4, 18, pad, pad, pad, other, 9, 2, 6, 5, 3, 5});
  write("key_counts", {4, 7});
  if (graph.name == "t5_encoder") {
    write("places", T5DistancePlaces(kSmallT5, kLength));
  } else {
    write("positions", {0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6});
    write("token_types", std::vector<int32_t>(14, 0));
  }
  player.Run();
  return player.Values(graph.FindTensor("states"));
}

void ExpectTextsStayApart(const Graph& graph) {
  const size_t width = static_cast<size_t>(graph.tensor(graph.FindTensor("states")).shape[1]);
  const std::vector<float> first = StatesOf(graph, 0, 7), second = StatesOf(graph, 11, 8);
  for (size_t i = 0; i < 4 * width; ++i) ASSERT_EQ(first[i], second[i]) << i;
  int changed = 0;
  for (size_t i = kLength * width; i < first.size(); ++i) changed += first[i] != second[i];
  EXPECT_GT(changed, static_cast<int>(6 * width));  // every token of a text sees its first
  for (const float value : first) ASSERT_TRUE(std::isfinite(value));
}

TEST(BertEncoderTest, PaddingAndOtherTextsChangeNothing) { ExpectTextsStayApart(SmallBert()); }
TEST(T5EncoderTest, PaddingAndOtherTextsChangeNothing) {
  ExpectTextsStayApart(BuildT5Encoder(kSmallT5, kBatch, kLength));
}

TEST(TextEncodersTest, EveryParameterIsExportedOnce) {
  for (const Graph& graph : {SmallBert(), BuildT5Encoder(kSmallT5, kBatch, kLength)}) {
    std::set<std::string> names;
    for (const Parameter& parameter : graph.parameters()) {
      int64_t exported = 0;
      for (const ExportedName& e : parameter.exported) {
        EXPECT_TRUE(names.insert(e.name).second) << e.name;
        exported += e.shape.elements();
      }
      EXPECT_EQ(exported, parameter.shape.elements()) << parameter.name;
    }
    for (const Unit& unit : graph.units()) EXPECT_FALSE(unit.trainable) << unit.name;
  }
}

TEST(T5EncoderTest, DistancesFallIntoBuckets) {
  const T5Shape shape{.relative_attention_num_buckets = 32, .relative_attention_max_distance = 128};
  const std::vector<int32_t> places = T5DistancePlaces(shape, 200);
  const auto of = [&](int64_t distance) { return places[static_cast<size_t>(distance + 199)]; };
  // The values of transformers' T5Attention._relative_position_bucket.
  const std::vector<std::pair<int64_t, int32_t>> wanted = {
      {0, 0},    {-1, 1},   {-7, 7},   {-8, 8},   {-11, 8},   {-12, 9},   {-15, 9}, {-16, 10}, {-23, 11},
      {-32, 12}, {-64, 14}, {-90, 14}, {-91, 15}, {-128, 15}, {-199, 15}, {1, 17},  {8, 24},   {199, 31}};
  for (const auto& [distance, place] : wanted) EXPECT_EQ(of(distance), place) << distance;
}

}  // namespace
}  // namespace angel_ptm
