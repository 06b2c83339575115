#include "angel_ptm/train/train_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/config/compare.h"
#include "angel_ptm/config/load.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {

std::string ToJson(const TrainState& state) {
  return nlohmann::json{{"next_step", state.next_step},
                        {"next_sample", state.next_sample},
                        {"applied_updates", state.applied_updates},
                        {"skipped_updates", state.skipped_updates},
                        {"skipped_in_a_row", state.skipped_in_a_row},
                        {"sample_order", state.sample_order},
                        {"numerics", state.numerics}}
      .dump();
}

absl::StatusOr<TrainState> TrainStateFromJson(const std::string& text, const std::string& checkpoint_path) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  TrainState state;
  const auto read = [&](const char* name, int64_t& value) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_number_integer()) return false;
    value = json[name].get<int64_t>();
    return true;
  };
  const auto read_text = [&](const char* name, std::string& value) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_string()) return false;
    value = json[name].get<std::string>();
    return true;
  };
  if (!read("next_step", state.next_step) || !read("next_sample", state.next_sample) ||
      !read("applied_updates", state.applied_updates) || !read("skipped_updates", state.skipped_updates) ||
      !read("skipped_in_a_row", state.skipped_in_a_row) || !read_text("sample_order", state.sample_order) ||
      !read_text("numerics", state.numerics)) {
    return absl::DataLossError(absl::StrCat(checkpoint_path, ": the trainer state is not complete: ", text));
  }
  return state;
}

std::string DescribeNumerics(const TrainConfig& config, int world_size, int threads, const char* backend) {
  return absl::StrCat("backend ", backend, ", world size ", world_size, ", threads ", threads, ", micro-batch ",
                      config.batch().micro_batch_sequences(), " of ", config.batch().global_batch_sequences(), " x ",
                      config.data().sequence_length(), ", head chunk ", config.numerics().lm_head_chunk_tokens(),
                      ", expert block ", config.numerics().expert_block_rows());
}

std::string DescribeSampleOrder(const TrainConfig& config, const DatasetManifest& dataset) {
  return absl::StrCat("tokenizer ", absl::Hex(dataset.tokenizer_xxh64, absl::kZeroPad16), ", tokens ",
                      absl::Hex(dataset.train_xxh64, absl::kZeroPad16), " in sequences of ",
                      config.data().sequence_length(), ", seed ", config.seed());
}

std::string CheckpointDirectory(const TrainConfig& config) { return config.output().directory() + "/checkpoints"; }

absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const TrainConfig& config, const Graph& graph,
                                               const std::vector<StateView>& views, const TrainState& state,
                                               const TextDataset& dataset, Communicator& communicator) {
  std::vector<StateSlice> slices;
  for (const StateView& view : views) {
    if (!graph.states[view.state].saved) continue;
    slices.push_back({view.unit, graph.states[view.state].name, view.begin, view.own_slice});
  }
  const CheckpointOptions options{
      .directory = CheckpointDirectory(config),
      .keep_last = config.checkpoint().keep_last(),
      .model_config = ToText(config),
      .files = {{"tokenizer.json", dataset.tokenizer_json}, {"tokenizer_config.json", dataset.tokenizer_config_json}}};
  return WriteCheckpoint(options, graph, slices, {.step = state.next_step, .json = ToJson(state)}, communicator);
}

absl::Status CheckSameModel(const TrainConfig& config, const CheckpointReader& checkpoint) {
  ASSIGN_OR_RETURN(const TrainConfig saved, ParseTrainConfig(checkpoint.manifest().model_config, checkpoint.path()));
  const std::vector<std::string> differences = ModelDifferences(saved.model(), config.model());
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--resume: ", checkpoint.path(),
                                                    " is of another model: ", absl::StrJoin(differences, "; "),
                                                    ": restore model{}, or choose another output.directory"));
}

absl::Status LoadState(const CheckpointReader& checkpoint, const std::vector<StateSpec>& states,
                       const std::vector<StateView>& views) {
  for (const StateView& view : views) {
    const StateSpec& spec = states[view.state];
    if (!spec.saved) {
      std::fill(view.stored.begin(), view.stored.end(), 0.0f);
      continue;
    }
    const bool whole = view.stored.size() != view.own_slice.size();
    RETURN_IF_ERROR(checkpoint.ReadRange(view.unit, spec.name, whole ? 0 : view.begin, view.stored));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
