#include "angel_ptm/train/import.h"

#include <memory>
#include <vector>

#include "angel_ptm/config/load.h"
#include "angel_ptm/train/train_state.h"
#include "comm/local.h"

namespace angel_ptm {

absl::StatusOr<SavedCheckpoint> ImportWeights(const TrainConfig& config, const Task& task, const ReadParameters& read) {
  const Graph graph = task.BuildEvaluation(kParameterState);
  std::vector<StateSlice> slices;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    slices.push_back(
        {.unit = unit, .read = [&read, unit](int64_t at, std::span<float> out) { return read(unit, at, out); }});
  }
  LocalWorld world(1);
  const std::unique_ptr<Communicator> communicator = world.Create(0);
  const CheckpointOptions options{
      .directory = CheckpointDirectory(config), .model_config = ToText(config), .files = task.checkpoint_files()};
  const TrainState state{.sample_order = task.sample_order()};
  return WriteCheckpoint(options, graph, slices, {.step = 0, .json = ToJson(state)}, *communicator);
}

}  // namespace angel_ptm
