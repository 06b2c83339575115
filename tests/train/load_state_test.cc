// State is read back from checkpoints of more ranks than a reader keeps files open.
#include <gtest/gtest.h>

#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/model/state.h"
#include "angel_ptm/train/train_state.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/support/file_opens.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

// A slice of every unit's parameters, as a rank keeps it in a run with another number of ranks.
struct Kept {
  std::vector<std::vector<float>> values;
  std::vector<StateView> views;

  explicit Kept(const Graph& graph, int rank, int size) : values(graph.units().size()) {
    for (UnitId unit = 0; unit < static_cast<UnitId>(values.size()); ++unit) {
      const UnitSlices cut = SliceUnit(graph.units()[unit].elements, size);
      values[unit].assign(static_cast<size_t>(cut.slice_elements), -1.0f);
      views.push_back({.unit = unit,
                       .begin = rank * cut.slice_elements,
                       .slice_elements = cut.slice_elements,
                       .stored_begin = rank * cut.slice_elements,
                       .stored_elements = cut.slice_elements,
                       .data = std::as_writable_bytes(std::span(values[unit])).data()});
    }
  }
};

TEST(LoadStateTest, EveryFileIsOpenedOnceHoweverManyThereAre) {
  constexpr int kWritten = 80;
  const Graph graph = MakeGraph({{"a", {{2048, 80}}}, {"b", {{2048, 79}, {17}}}, {"c", {{90, 2048}}}, {"d", {{48}}}});
  const TemporaryFolder folder;
  RunRanks(kWritten, [&](Communicator& comm) { return Save({.directory = folder.path()}, graph, 1, comm).status(); });
  const std::string path = folder / "step-00000001";
  using Load = absl::Status (*)(const CheckpointReader& from, const std::vector<StateView>& views);
  const Load state = [](const CheckpointReader& from, const std::vector<StateView>& views) {
    return LoadState(from, {ParameterState()}, views);
  };
  const Load weights = [](const CheckpointReader& from, const std::vector<StateView>& views) {
    return LoadWeights(from, "parameters", views);
  };
  for (const auto& [load, rank, size] : {std::tuple(state, 0, 1), {state, 1, 3}, {weights, 0, 1}, {weights, 2, 3}}) {
    auto reader = CheckpointReader::Open(path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_EQ(reader->Fit(*graph.table), absl::OkStatus());
    FileOpens opens(path);
    Kept kept(graph, rank, size);
    EXPECT_EQ(load(*reader, kept.views), absl::OkStatus());
    const std::map<std::string, int> seen = opens.Take();
    EXPECT_GE(static_cast<int>(seen.size()), kWritten / size);
    for (const auto& [name, count] : seen) EXPECT_EQ(count, 1) << name;
    for (const StateView& view : kept.views) {
      const int64_t elements = graph.units()[view.unit].elements;
      for (int64_t i = 0; i < view.stored_elements; ++i) {
        const int64_t at = view.stored_begin + i;
        const float want = at < elements ? StateValue(view.unit, "parameters", at, 1) : 0.0f;
        ASSERT_EQ(kept.values[view.unit][i], want) << view.unit << " " << at;
      }
    }
  }
}

}  // namespace
}  // namespace angel_ptm
