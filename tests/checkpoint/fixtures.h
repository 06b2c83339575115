// A small graph, and state whose values show where they belong.
#ifndef ANGEL_PTM_TESTS_CHECKPOINT_FIXTURES_H_
#define ANGEL_PTM_TESTS_CHECKPOINT_FIXTURES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/plan/shard.h"
#include "comm/communicator.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {

inline bool Exists(const std::string& path) {
  const absl::StatusOr<bool> exists = PathExists(path);
  EXPECT_TRUE(exists.ok()) << exists.status();
  return exists.ok() && *exists;
}

inline std::vector<std::string> NamesIn(const std::string& path) {
  const auto names = ListDirectory(path);
  EXPECT_TRUE(names.ok()) << names.status();
  return names.ok() ? *names : std::vector<std::string>();
}

struct UnitShape {
  std::string name;
  std::vector<Shape> parameters;
};

inline Graph MakeGraph(const std::vector<UnitShape>& units) {
  GraphBuilder builder("test");
  for (const UnitShape& shape : units) {
    const UnitId unit = builder.AddUnit(shape.name);
    for (size_t i = 0; i < shape.parameters.size(); ++i) {
      builder.AddParameter(unit, shape.name + ".w" + std::to_string(i), shape.parameters[i], {}, true, {});
    }
  }
  return builder.Build();
}

// Units of several slices and of less than one: slices of 1024 elements cut the first two and the last differently at
// every world size.
inline Graph SmallGraph() {
  return MakeGraph({{"embedding", {{100, 48}}},
                    {"layers.0.dense", {{64, 64}, {64}, {33, 64}}},
                    {"final_norm", {{48}}},
                    {"head", {{130, 64}}}});
}

inline const std::vector<std::string>& SavedStates() {
  static const std::vector<std::string> states = {"parameters", "moment1", "moment2"};
  return states;
}

// The value of an element, different for every place and step.
inline float StateValue(UnitId unit, const std::string& state, int64_t i, int64_t step) {
  const int number = state == "parameters" ? 0 : state == "moment1" ? 2 : 3;
  return static_cast<float>((step * 131 + unit * 17 + number) % 251) + static_cast<float>(i % 65521) / 65536.0f;
}

// One rank's own state, with padding, and the slices that describe it. With `whole_vectors` the slices point into whole
// vectors, as at ZeRO stage 0.
class OwnState {
 public:
  OwnState(const Graph& graph, int rank, int size, int64_t step, bool whole_vectors = false) {
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
      const UnitSlices cut = SliceUnit(graph.units()[u].elements, size);
      for (const std::string& state : SavedStates()) {
        const int64_t begin = whole_vectors ? 0 : rank * cut.slice_elements;
        const int64_t n = whole_vectors ? size * cut.slice_elements : cut.slice_elements;
        std::vector<float>& values = storage_.emplace_back(static_cast<size_t>(n), 0.0f);
        for (int64_t i = 0; i < n && begin + i < cut.elements; ++i) values[i] = StateValue(u, state, begin + i, step);
        slices_.push_back({.unit = u, .state = state, .begin = rank * cut.slice_elements});
        own_.push_back({whole_vectors ? rank * cut.slice_elements : 0, cut.slice_elements});
      }
    }
    for (size_t i = 0; i < slices_.size(); ++i) {
      slices_[i].data = std::span<const float>(storage_[i]).subspan(own_[i].first, own_[i].second);
    }
  }
  const std::vector<StateSlice>& slices() const { return slices_; }

 private:
  std::vector<std::vector<float>> storage_;
  std::vector<std::pair<int64_t, int64_t>> own_;
  std::vector<StateSlice> slices_;
};

// Saves SmallGraph-like state as one rank of `communicator`.
inline absl::StatusOr<SavedCheckpoint> Save(const CheckpointOptions& options, const Graph& graph, int64_t step,
                                            Communicator& communicator, bool whole_vectors = false) {
  const OwnState state(graph, communicator.rank(), communicator.size(), step, whole_vectors);
  return WriteCheckpoint(options, graph, state.slices(),
                         {.step = step, .json = "{\"samples\": " + std::to_string(step * 8) + "}"}, communicator);
}

// Compares all state, padding included, as every rank of a world of `size` would read it.
inline absl::Status ExpectState(const CheckpointReader& reader, const Graph& graph, int64_t step, int size) {
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    const UnitSlices cut = SliceUnit(graph.units()[u].elements, size);
    std::vector<float> slice(static_cast<size_t>(cut.slice_elements));
    for (const std::string& state : SavedStates()) {
      for (int rank = 0; rank < size; ++rank) {
        std::fill(slice.begin(), slice.end(), -1.0f);
        const int64_t begin = rank * cut.slice_elements;
        RETURN_IF_ERROR(reader.ReadRange(u, state, begin, slice));
        for (int64_t i = 0; i < cut.slice_elements; ++i) {
          const float want = begin + i < cut.elements ? StateValue(u, state, begin + i, step) : 0.0f;
          if (slice[i] != want) {
            return absl::InternalError(absl::StrCat(graph.units()[u].name, " ", state, " element ", begin + i,
                                                    ": wanted ", want, ", got ", slice[i]));
          }
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_CHECKPOINT_FIXTURES_H_
