#include "angel_ptm/train/initialise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "angel_ptm/base/hash.h"
#include "angel_ptm/model/hunyuan_lm.h"

namespace angel_ptm {
namespace {

const ParameterTable& TestTable() {
  static const auto table = HunyuanLmParameters({.vocab_size = 100,
                                                 .hidden_size = 32,
                                                 .intermediate_size = 48,
                                                 .num_hidden_layers = 1,
                                                 .num_attention_heads = 4,
                                                 .num_key_value_heads = 2,
                                                 .head_dim = 8,
                                                 .initializer_range = 0.5f});
  return *table;
}

// A view of a slice of a unit's state; the rank keeps nothing else of it.
StateView ViewOf(std::span<float> slice, UnitId unit = 0, StateId state = kParameterState, int64_t begin = 0) {
  const int64_t elements = static_cast<int64_t>(slice.size());
  return {.unit = unit,
          .state = state,
          .begin = begin,
          .slice_elements = elements,
          .stored_begin = begin,
          .stored_elements = elements,
          .data = std::as_writable_bytes(slice).data()};
}

// Every unit's parameters, joined from the slices that each of `world` ranks filled.
std::vector<std::vector<float>> FromSlices(int world, uint64_t seed) {
  const ParameterTable& table = TestTable();
  std::vector<std::vector<float>> units;
  for (UnitId u = 0; u < static_cast<UnitId>(table.units.size()); ++u) {
    const int64_t slice = SliceUnit(table.units[u].elements, world).slice_elements;
    std::vector<float> whole(slice * world, -1.0f);
    for (int rank = 0; rank < world; ++rank) {
      const std::span<float> own(whole.data() + rank * slice, static_cast<size_t>(slice));
      const StateView view = ViewOf(own, u, kParameterState, rank * slice);
      EXPECT_TRUE(InitialiseState(table, seed, std::span(&view, 1)).ok());
    }
    for (size_t i = table.units[u].elements; i < whole.size(); ++i) EXPECT_EQ(whole[i], 0) << "padding";
    whole.resize(table.units[u].elements);
    units.push_back(std::move(whole));
  }
  return units;
}

TEST(InitialiseTest, SameAtEveryWorldSize) {
  const auto one = FromSlices(1, 3);
  for (int world : {2, 3, 8}) EXPECT_EQ(FromSlices(world, 3), one) << world << " ranks";
  EXPECT_NE(FromSlices(1, 4), one);
}

TEST(InitialiseTest, NormsAreOnesAndWeightsHaveTheirDeviation) {
  const ParameterTable& table = TestTable();
  const auto units = FromSlices(1, 5);
  for (const Parameter& parameter : table.parameters) {
    const std::span<const float> values(units[parameter.unit].data() + parameter.unit_offset,
                                        static_cast<size_t>(parameter.shape.elements()));
    double sum = 0, squares = 0;
    for (float v : values) {
      sum += v;
      squares += static_cast<double>(v) * v;
    }
    const double n = static_cast<double>(values.size());
    if (parameter.initial.ones) {
      EXPECT_EQ(sum, n) << parameter.name;
      EXPECT_EQ(squares, n) << parameter.name;
    } else {
      EXPECT_NEAR(sum / n, 0, 4 * 0.5 / std::sqrt(n)) << parameter.name;
      EXPECT_NEAR(std::sqrt(squares / n), 0.5, 0.03) << parameter.name;
    }
  }
}

TEST(InitialiseTest, NoDeviationMeansOnes) {
  ParameterTable table = TestTable();
  for (Parameter& parameter : table.parameters) parameter.initial = InitialValues::Normal(0);
  std::vector<float> values(table.units[0].elements, -1.0f);
  const StateView view = ViewOf(values);
  ASSERT_TRUE(InitialiseState(table, 3, std::span(&view, 1)).ok());
  for (float value : values) EXPECT_EQ(value, 0);
}

TEST(InitialiseTest, ThreadsChangeNoBit) {
  const auto shared = HunyuanLmParameters({.vocab_size = 5000,
                                           .hidden_size = 128,
                                           .intermediate_size = 128,
                                           .num_hidden_layers = 1,
                                           .num_attention_heads = 4,
                                           .num_key_value_heads = 4,
                                           .head_dim = 32});
  const ParameterTable& table = *shared;
  const auto units = [&](int threads) {
    std::vector<std::vector<float>> values;
    std::vector<StateView> views;
    for (const Unit& unit : table.units) values.emplace_back(static_cast<size_t>(unit.elements), -1.0f);
    for (UnitId u = 0; u < static_cast<UnitId>(table.units.size()); ++u) {
      views.push_back(ViewOf(values[u], u));
    }
    EXPECT_TRUE(InitialiseState(table, 7, views, threads).ok());
    return values;
  };
  const auto one = units(1);
  EXPECT_GT(one[0].size(), size_t{1} << 19) << "more than one piece";
  for (int threads : {2, 3, 16}) EXPECT_EQ(units(threads), one) << threads << " threads";
}

// Among so many names, some digests share their 32 bits. The parameters must still get different weights.
TEST(InitialiseTest, EveryParameterHasItsOwnStream) {
  constexpr int kParameters = 200000;
  ParameterTable table;
  for (int p = 0; p < kParameters; ++p) {
    table.parameters.push_back({.name = "experts." + std::to_string(p)});
  }
  const std::vector<uint32_t> streams = InitialisationStreams(table);
  int moved = 0;
  for (int p = 0; p < kParameters; ++p) {
    moved += streams[p] != static_cast<uint32_t>(Hasher().Mix(table.parameters[p].name).Digest());
  }
  EXPECT_GT(moved, 0) << "no collision: the test shows nothing";
  EXPECT_LT(moved, 50);
  EXPECT_EQ(std::set<uint32_t>(streams.begin(), streams.end()).size(), streams.size());
}

TEST(InitialiseTest, OtherStateIsZero) {
  std::vector<float> values(1024, 5.0f);
  ParameterTable table = TestTable();
  table.states.resize(3);
  table.states[2].start = StateSpec::Start::kZero;
  const StateView view = ViewOf(values, 0, StateId{2});
  ASSERT_TRUE(InitialiseState(table, 1, std::span(&view, 1)).ok());
  for (float v : values) ASSERT_EQ(v, 0);
}

}  // namespace
}  // namespace angel_ptm
