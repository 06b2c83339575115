#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/directory.h"
#include "angel_ptm/checkpoint/safetensors.h"

namespace angel_ptm {
namespace {

// What ranks tell each other after a stage; plain bytes for the Communicator.
struct RankResult {
  int32_t code = 0;
  int32_t reserved = 0;
  int64_t file_bytes = 0;
  uint64_t header_checksum = 0;
  char message[1000] = {};

  void Set(const absl::Status& status) {
    code = static_cast<int32_t>(status.code());
    message[status.message().copy(message, sizeof(message) - 1)] = '\0';
  }
};

// The elements of this rank's slice that lie within the unit, without padding.
int64_t ElementsToSave(const StateSlice& slice, const ManifestUnit& unit, int rank) {
  APTM_CHECK(slice.begin == rank * unit.slice_elements, unit.name, ": slice begins at ", slice.begin, ", rank ", rank,
             " owns from ", rank * unit.slice_elements);
  const int64_t n = std::clamp<int64_t>(unit.elements - slice.begin, 0, unit.slice_elements);
  const int64_t got = static_cast<int64_t>(slice.data.size());
  APTM_CHECK(slice.read || got >= n, unit.name, ": slice of ", got, " of ", n);
  return n;
}

// Calls visit(values) -> absl::Status on each chunk of the slice's first n elements.
template <typename Visit>
absl::Status ForEachChunk(const StateSlice& slice, int64_t n, Visit&& visit) {
  std::vector<float> values;
  for (int64_t at = 0; at < n; at += kChecksumChunkElements) {
    const size_t first = static_cast<size_t>(at), count = static_cast<size_t>(std::min(kChecksumChunkElements, n - at));
    if (!slice.read) {
      RETURN_IF_ERROR(visit(slice.data.subspan(first, count)));
      continue;
    }
    values.resize(count);
    RETURN_IF_ERROR(slice.read(at, values));
    RETURN_IF_ERROR(visit(std::span<const float>(values)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ChunkChecksums(const StateSlice& slice, int64_t n) {
  std::string text;
  RETURN_IF_ERROR(ForEachChunk(slice, n, [&](std::span<const float> chunk) {
    absl::StrAppend(&text, text.empty() ? "" : " ", ChecksumText(Xxh3(std::as_bytes(chunk))));
    return absl::OkStatus();
  }));
  return text;
}

// Writes this rank's file. Checksums are computed first, so that the header is final and the file is written once,
// front to back.
absl::Status WriteRankFile(const std::string& path, const CheckpointManifest& manifest, std::span<const StateSlice> own,
                           int rank, RankResult* result) {
  std::vector<SafetensorsTensor> tensors;
  std::vector<std::pair<const StateSlice*, int64_t>> written;  // and how many elements
  SafetensorsMetadata metadata = {{"format", "angel-ptm checkpoint"},
                                  {"version", absl::StrCat(manifest.version)},
                                  {"step", absl::StrCat(manifest.step)},
                                  {"rank", absl::StrCat(rank)},
                                  {"world_size", absl::StrCat(manifest.world_size)}};
  for (const StateSlice& slice : own) {
    const ManifestUnit& unit = manifest.units[slice.unit];
    const int64_t n = ElementsToSave(slice, unit, rank);
    if (n == 0) continue;
    const std::string name = StateTensorName(slice.state, unit.name);
    tensors.push_back({.name = name, .shape = {n}});
    written.emplace_back(&slice, n);
    metadata[absl::StrCat("begin:", name)] = absl::StrCat(slice.begin);
    ASSIGN_OR_RETURN(metadata[absl::StrCat("xxh3:", name)], ChunkChecksums(slice, n));
  }
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors, metadata));
  for (const auto& [slice, n] : written) {
    RETURN_IF_ERROR(
        ForEachChunk(*slice, n, [&](std::span<const float> chunk) { return writer.Append(std::as_bytes(chunk)); }));
  }
  RETURN_IF_ERROR(writer.Finish());
  result->file_bytes = writer.file_bytes();
  result->header_checksum = writer.header_checksum();
  return absl::OkStatus();
}

absl::Status WriteFiles(const std::vector<CheckpointFile>& files, const std::string& directory,
                        CheckpointManifest* manifest) {
  for (const CheckpointFile& file : files) {
    RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/", file.name), file.text));
    manifest->copied_files.push_back({file.name, static_cast<int64_t>(file.text.size()), Xxh3(file.text)});
  }
  return absl::OkStatus();
}

// CHECKs that every state is passed once for each unit that has it; returns the states' names in the order of their
// first slices.
std::vector<std::string> CheckComplete(const ParameterTable& table, std::span<const StateSlice> own) {
  std::map<std::string, std::vector<int>> seen;
  std::vector<std::string> states;
  for (const StateSlice& slice : own) {
    APTM_CHECK(slice.unit >= 0 && slice.unit < static_cast<UnitId>(table.units.size()), "unit ", slice.unit);
    const auto [count, is_new] = seen.try_emplace(slice.state, table.units.size(), 0);
    if (is_new) states.push_back(slice.state);
    APTM_CHECK(++count->second[slice.unit] == 1, "unit ", slice.unit, " was passed twice");
  }
  for (const auto& [state, count] : seen) {
    for (UnitId u = 0; u < static_cast<UnitId>(table.units.size()); ++u) {
      const bool wanted = state == "parameters" || table.units[u].trainable;
      APTM_CHECK(count[u] == (wanted ? 1 : 0), state, " of unit ", table.units[u].name, " is ",
                 wanted ? "missing" : "there, but it is frozen");
    }
  }
  return states;
}

// One write in progress; stages run on all ranks, the directory is rank 0's business.
class CheckpointWrite {
 public:
  CheckpointWrite(const CheckpointOptions& options, int64_t step, Communicator& communicator)
      : options_(options),
        step_(step),
        communicator_(communicator),
        temporary_(absl::StrCat(options.directory, "/", TemporaryName(step))) {}

  bool is_root() const { return communicator_.rank() == 0; }
  const std::string& temporary() const { return temporary_; }

  // Rank 0 has done something; all ranks learn how it went.
  absl::Status ShareRoot(const absl::Status& status, const char* what) {
    RankResult result;
    result.Set(status);
    RETURN_IF_ERROR(communicator_.Broadcast(std::as_writable_bytes(std::span(&result, 1)), /*root=*/0, {what, step_}));
    return Combine(std::span(&result, 1));
  }

  // All ranks have done something; all learn how each one fared.
  absl::StatusOr<std::vector<RankResult>> ShareAll(const RankResult& own, const char* what) {
    std::vector<RankResult> results(static_cast<size_t>(communicator_.size()));
    RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(results)),
                                            std::as_bytes(std::span(&own, 1)), {what, step_}));
    RETURN_IF_ERROR(Combine(results));
    return results;
  }

 private:
  // The first failure, the same on every rank. Rank 0 removes the temporary directory first; if even that fails, the
  // next write removes it.
  absl::Status Combine(std::span<const RankResult> results) {
    const auto failed = [](const RankResult& r) { return r.code != 0; };
    const auto first = std::find_if(results.begin(), results.end(), failed);
    if (first == results.end()) return absl::OkStatus();
    if (is_root()) RemoveTree(temporary_).IgnoreError();
    const int64_t count = std::count_if(results.begin(), results.end(), failed);
    std::string message = absl::StrCat("the checkpoint of step ", step_, " was not saved: rank ",
                                       first - results.begin(), ": ", first->message);
    if (count > 1) absl::StrAppend(&message, " (and ", count - 1, " more ranks failed)");
    absl::StrAppend(&message, "; earlier checkpoints are intact");
    return absl::Status(static_cast<absl::StatusCode>(first->code), message);
  }

  const CheckpointOptions& options_;
  const int64_t step_;
  Communicator& communicator_;
  const std::string temporary_;
};

// On rank 0: writes the manifest and renames the directory. Returns whether the checkpoint survives a power cut.
absl::StatusOr<bool> Publish(const CheckpointOptions& options, const std::string& temporary,
                             CheckpointManifest manifest, std::span<const RankResult> results,
                             std::vector<std::string>* warnings) {
  for (int r = 0; r < manifest.world_size; ++r) {
    manifest.rank_files.push_back(
        {RankFileName(r, manifest.world_size), results[r].file_bytes, results[r].header_checksum});
  }
  RETURN_IF_ERROR(WriteFile(absl::StrCat(temporary, "/", std::string(kManifestFile)), EncodeManifest(manifest)));
  return PublishTemporary(options.directory, manifest.step, warnings);
}

}  // namespace

absl::StatusOr<SavedCheckpoint> WriteCheckpoint(const CheckpointOptions& options, const Graph& graph,
                                                std::span<const StateSlice> own, const TrainerState& state,
                                                Communicator& communicator) {
  const int rank = communicator.rank(), size = communicator.size();
  CheckpointManifest manifest{.step = state.step,
                              .world_size = size,
                              .graph_name = graph.name,
                              .graph_hash = Hash(graph),
                              .model_config = options.model_config,
                              .trainer_state = state.json,
                              .states = CheckComplete(*graph.table, own),
                              .units = DescribeUnits(*graph.table, size)};
  manifest.version = VersionOf(manifest);
  CheckpointWrite write(options, state.step, communicator);
  absl::Status status;
  std::vector<std::string> warnings;
  if (write.is_root()) status = PrepareTemporary(options.directory, state.step, &warnings);
  RETURN_IF_ERROR(write.ShareRoot(status, "prepare a checkpoint"));

  RankResult result;
  const absl::StatusOr<bool> seen = PathAppears(write.temporary(), options.patience);
  if (!seen.ok()) {
    status = seen.status();
  } else if (!*seen) {
    status = absl::NotFoundError(absl::StrCat("cannot see ", write.temporary(), ", which rank 0 has made, after ",
                                              options.patience.seconds,
                                              " seconds: the directory must be shared by all ranks"));
  } else {
    status =
        WriteRankFile(absl::StrCat(write.temporary(), "/", RankFileName(rank, size)), manifest, own, rank, &result);
  }
  if (status.ok() && write.is_root()) status = WriteFiles(options.files, write.temporary(), &manifest);
  result.Set(status);
  ASSIGN_OR_RETURN(const std::vector<RankResult> results, write.ShareAll(result, "write a checkpoint"));

  SavedCheckpoint saved{.path = absl::StrCat(options.directory, "/", CheckpointName(state.step))};
  for (const RankResult& r : results) saved.bytes += r.file_bytes;
  bool durable = false;
  if (write.is_root()) {
    const absl::StatusOr<bool> published = Publish(options, write.temporary(), std::move(manifest), results, &warnings);
    status = published.status();
    durable = published.ok() && *published;
  }
  RETURN_IF_ERROR(write.ShareRoot(status, "publish a checkpoint"));
  // Only if it is durable: earlier checkpoints are all there is if a power cut takes this one's name.
  if (durable) {
    PruneCheckpoints(options.directory, options.keep_last, {state.step, options.protected_step}, &warnings);
  }
  saved.warning = absl::StrJoin(warnings, "; ");
  return saved;
}

}  // namespace angel_ptm
