#include "angel_ptm/train/train_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/config/load.h"
#include "nlohmann/json.hpp"
#include "optim/ema.h"

namespace angel_ptm {

namespace {

constexpr const char *kLosses = "drift_of_losses", *kNorms = "drift_of_gradient_norms";

// Returns false if the field exists but is malformed.
bool ReadDrift(const nlohmann::json& json, const char* name, DriftMemory& memory) {
  if (!json.contains(name)) return true;
  const nlohmann::json& object = json[name];
  const nlohmann::json last = object.is_object() ? object.value("last", nlohmann::json()) : nlohmann::json();
  if (!last.is_array() || last.size() > DriftGuard::kWindow) return false;
  for (const auto& value : last) {
    if (!value.is_number()) return false;
    memory.last.push_back(value.get<double>());
  }
  if (!object.contains("least_mean")) return true;
  if (!object["least_mean"].is_number()) return false;
  memory.least = object["least_mean"].get<double>();
  return true;
}

}  // namespace

std::string ToJson(const TrainState& state) {
  nlohmann::json numerics = nlohmann::json::object();
  for (const auto& [name, value] : state.numerics) numerics[name] = value;
  nlohmann::json json{{"next_step", state.next_step},
                      {"next_sample", state.next_sample},
                      {"applied_updates", state.applied_updates},
                      {"skipped_updates", state.skipped_updates},
                      {"skipped_in_a_row", state.skipped_in_a_row},
                      {"sample_order", state.sample_order},
                      {"numerics", numerics}};
  if (!state.unit_updates.empty()) json["unit_updates"] = state.unit_updates;
  if (state.fell_back) json["fell_back"] = true;
  for (const auto& [name, memory] : {std::pair(kLosses, &state.losses), std::pair(kNorms, &state.gradient_norms)}) {
    if (memory->last.empty()) continue;
    json[name] = {{"last", memory->last}};
    if (std::isfinite(memory->least)) json[name]["least_mean"] = memory->least;
  }
  return json.dump();
}

absl::StatusOr<TrainState> TrainStateFromJson(const std::string& text, const std::string& checkpoint_path) {
  const auto json = ParseJson(text);
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
  // Checkpoints from before numerics had fields store them as text.
  const auto read_numerics = [&] {
    if (!json.is_object() || !json.contains("numerics")) return false;
    const auto& numerics = json["numerics"];
    if (numerics.is_string()) state.numerics = NumericsFromText(numerics.get<std::string>());
    if (!numerics.is_object()) return numerics.is_string();
    for (const auto& [name, value] : numerics.items()) {
      if (!value.is_string()) return false;
      state.numerics.emplace_back(name, value.get<std::string>());
    }
    return true;
  };
  // Only in checkpoints of lock-free updates.
  const auto read_lock_free = [&] {
    if (!json.is_object()) return false;
    state.fell_back = json.contains("fell_back") && json["fell_back"] == true;
    if (!ReadDrift(json, kLosses, state.losses) || !ReadDrift(json, kNorms, state.gradient_norms)) return false;
    if (!json.contains("unit_updates")) return true;
    const auto& counts = json["unit_updates"];
    if (!counts.is_array()) return false;
    for (const auto& count : counts) {
      if (!count.is_number_integer()) return false;
      state.unit_updates.push_back(count.get<int64_t>());
    }
    return true;
  };
  if (!read("next_step", state.next_step) || !read("next_sample", state.next_sample) ||
      !read("applied_updates", state.applied_updates) || !read("skipped_updates", state.skipped_updates) ||
      !read("skipped_in_a_row", state.skipped_in_a_row) || !read_text("sample_order", state.sample_order) ||
      !read_numerics() || !read_lock_free()) {
    return absl::DataLossError(absl::StrCat(checkpoint_path, ": the trainer state is not complete: ", text));
  }
  AddWhatWasNotRecorded(state.numerics);
  return state;
}

std::string CheckpointDirectory(const TrainConfig& config) { return config.output().directory() + "/checkpoints"; }

std::string DivergedDirectory(const TrainConfig& config) { return config.output().directory() + "/diverged"; }

std::vector<StateSlice> SlicesToSave(const ParameterTable& table, const std::vector<StateView>& views) {
  std::vector<StateSlice> slices;
  const StateId precise = PreciseState(table.states);
  for (const StateView& view : views) {
    const bool trainable = table.units[view.unit].trainable;
    if (view.state == (trainable ? precise : kParameterState)) {
      slices.push_back({.unit = view.unit, .state = table.states[kParameterState].name, .begin = view.begin});
    } else if (table.states[view.state].saved && view.state != kParameterState) {
      slices.push_back({.unit = view.unit, .state = table.states[view.state].name, .begin = view.begin});
    } else {
      continue;
    }
    if (view.dtype == DType::kFloat32 && view.data != nullptr) {
      slices.back().data = view.own_slice();
    } else {
      slices.back().read = [view](int64_t at, std::span<float> out) {
        return view.Read(view.begin - view.stored_begin + at, out);
      };
    }
  }
  return slices;
}

absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const CheckpointPlace& place, const Graph& graph,
                                               const std::vector<StateView>& views, const CheckpointContent& content,
                                               Communicator& communicator) {
  const std::vector<StateSlice> slices = SlicesToSave(*graph.table, views);
  const CheckpointOptions options{.directory = place.directory,
                                  .keep_last = place.keep_last,
                                  .protected_step = place.protected_step,
                                  .model_config = ToText(content.config),
                                  .files = content.files};
  return WriteCheckpoint(options, graph, slices, {.step = content.state.next_step, .json = ToJson(content.state)},
                         communicator);
}

absl::StatusOr<TrainConfig> StoredConfig(const CheckpointReader& checkpoint, std::string* note) {
  std::vector<std::string> unknown;
  ASSIGN_OR_RETURN(TrainConfig config,
                   ParseStoredConfig(checkpoint.manifest().model_config, checkpoint.path(), &unknown));
  note->clear();
  if (!unknown.empty()) {
    *note = absl::StrCat("the checkpoint's configuration has fields that this program does not know and ignores: ",
                         absl::StrJoin(unknown, ", "));
  }
  return config;
}

namespace {

// Frozen units have no average and need none.
std::string StateOfUnit(const CheckpointReader& checkpoint, const std::string& state, UnitId unit) {
  return checkpoint.Holds(unit, state) ? state : ParameterState().name;
}

absl::Status FillWithZeros(const StateView& view) {
  const std::vector<float> zeros(static_cast<size_t>(std::min(view.stored_elements, kChecksumChunkElements)));
  for (int64_t at = 0; at < view.stored_elements; at += static_cast<int64_t>(zeros.size())) {
    const int64_t count = std::min(view.stored_elements - at, static_cast<int64_t>(zeros.size()));
    RETURN_IF_ERROR(view.Write(at, std::span(zeros).first(static_cast<size_t>(count))));
  }
  return absl::OkStatus();
}

// Reads elements [at, at + count) of what the view keeps.
absl::Status ReadPart(const StateView& view, int64_t at, int64_t count, const ReadParameters& read) {
  if (view.dtype == DType::kFloat32 && view.data != nullptr) {
    return read(view.unit, view.stored_begin + at,
                view.stored().subspan(static_cast<size_t>(at), static_cast<size_t>(count)));
  }
  const int64_t end = at + count;
  std::vector<float> piece(static_cast<size_t>(std::min(count, kChecksumChunkElements)));
  for (; at < end; at += static_cast<int64_t>(piece.size())) {
    piece.resize(static_cast<size_t>(std::min(end - at, kChecksumChunkElements)));
    RETURN_IF_ERROR(read(view.unit, view.stored_begin + at, piece));
    RETURN_IF_ERROR(view.Write(at, piece));
  }
  return absl::OkStatus();
}

// A view to fill, and the checkpoint's state to fill it with.
struct Filling {
  const StateView* view = nullptr;
  const std::string* state = nullptr;
};

// Reads one stored rank after the other. Going view by view would reopen files for every view if the checkpoint has
// more files than are kept open.
absl::Status Fill(const std::vector<Filling>& fillings, const CheckpointReader& checkpoint) {
  struct Part {
    int stored_rank, filling;
    int64_t at, count;
  };
  std::vector<Part> parts;
  for (size_t f = 0; f < fillings.size(); ++f) {
    const StateView& view = *fillings[f].view;
    if (view.stored_elements == 0) continue;
    const int64_t begin = view.stored_begin;
    for (const CheckpointReader::StoredRange& range :
         checkpoint.StoredRangesOf(view.unit, begin, begin + view.stored_elements)) {
      parts.push_back({range.stored_rank, static_cast<int>(f), range.begin - begin, range.count});
    }
  }
  std::ranges::stable_sort(parts, {}, &Part::stored_rank);
  for (const Part& part : parts) {
    const Filling& filling = fillings[static_cast<size_t>(part.filling)];
    const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) {
      return checkpoint.ReadRange(unit, *filling.state, begin, out);
    };
    RETURN_IF_ERROR(ReadPart(*filling.view, part.at, part.count, read));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadState(const CheckpointReader& checkpoint, const std::vector<StateSpec>& states,
                       const std::vector<StateView>& views) {
  std::vector<Filling> fillings;
  for (const StateView& view : views) {
    const StateSpec& spec = states[view.state];
    // Imported weights, from before the first update, need not contain states that start as zeros.
    const bool untouched = checkpoint.manifest().step == 0 && !checkpoint.Holds(view.unit, spec.name);
    if (spec.start == StateSpec::Start::kZero && (!spec.saved || untouched)) {
      RETURN_IF_ERROR(FillWithZeros(view));
      continue;
    }
    const bool holds = checkpoint.Holds(view.unit, spec.name);
    const bool begins = spec.start == StateSpec::Start::kParameters && !holds;
    if (!begins && !holds && spec.name != ParameterState().name) {
      return absl::NotFoundError(absl::StrCat(
          "the checkpoint ", checkpoint.path(), " holds no ", spec.name,
          " to go on with, as one that angel-ptm merge wrote: wanted one of training, or a run that begins ",
          "with its weights (angel-ptm import --format checkpoint)"));
    }
    fillings.push_back({&view, begins ? &states[kParameterState].name : &spec.name});
  }
  return Fill(fillings, checkpoint);
}

absl::StatusOr<std::string> WeightsToRead(const CheckpointReader& checkpoint, const std::string& weights) {
  const std::string parameters = ParameterState().name;
  if (weights == "last") return parameters;
  const std::vector<std::string>& states = checkpoint.manifest().states;
  if (weights == kEmaState && std::find(states.begin(), states.end(), weights) != states.end()) return weights;
  if (weights == kEmaState) {
    return absl::NotFoundError(absl::StrCat("--weights ema: ", checkpoint.path(),
                                            " has no average of the weights: its run had optimizer.ema_decay = 0"));
  }
  return absl::InvalidArgumentError(absl::StrCat("--weights: wanted last or ema, got ", weights));
}

absl::Status ReadWeights(const CheckpointReader& checkpoint, const std::string& state, UnitId unit, int64_t begin,
                         std::span<float> out) {
  return checkpoint.ReadRange(unit, StateOfUnit(checkpoint, state, unit), begin, out);
}

absl::Status LoadWeights(const CheckpointReader& checkpoint, const std::string& state,
                         const std::vector<StateView>& views) {
  RETURN_IF_ERROR(checkpoint.HoldFiles());
  std::vector<std::string> states;  // by view
  for (const StateView& view : views) states.push_back(StateOfUnit(checkpoint, state, view.unit));
  std::vector<Filling> fillings;
  for (size_t i = 0; i < views.size(); ++i) fillings.push_back({&views[i], &states[i]});
  return Fill(fillings, checkpoint);
}

absl::Status ReadInto(const StateView& view, const ReadParameters& read) {
  return ReadPart(view, 0, view.stored_elements, read);
}

}  // namespace angel_ptm
