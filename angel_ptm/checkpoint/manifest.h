// manifest.json of a checkpoint: what was saved, by how many ranks, in which files (FORMAT.md).
#ifndef ANGEL_PTM_CHECKPOINT_MANIFEST_H_
#define ANGEL_PTM_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/shape.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/model/parameter_table.h"
#include "angel_ptm/plan/shard.h"

namespace angel_ptm {

// The newest version this program reads. Version 1 knows the states parameters, moment1 and moment2, of every unit; it
// is still written where there is nothing else, so that older programs can read the checkpoint.
inline constexpr int kCheckpointFormatVersion = 2;
// Tensors are checked in pieces of this many elements (4 MiB), so reading a range never needs more than the pieces it
// touches.
inline constexpr int64_t kChecksumChunkElements = int64_t{1} << 20;

struct ManifestParameter {
  std::string name;
  int64_t offset = 0;  // elements from the start of the unit's flat vector
  Shape shape;
};

struct ManifestUnit {
  std::string name;
  int64_t elements = 0;
  int64_t slice_elements = 0;  // rank r's file holds [r * slice_elements, (r + 1) * slice_elements), cut at elements
  bool frozen = false;         // it was not trained
  std::vector<ManifestParameter> parameters;

  bool Has(std::string_view state) const { return !frozen || state == "parameters"; }
};

struct ManifestRankFile {
  std::string name;
  int64_t bytes = 0;
  uint64_t header_checksum = 0;  // the header holds the checksums of the tensors
};

struct ManifestCopiedFile {
  std::string name;
  int64_t bytes = 0;
  uint64_t checksum = 0;
};

struct CheckpointManifest {
  int version = 1;  // VersionOf
  int64_t step = 0;
  int world_size = 0;
  int64_t chunk_elements = kChecksumChunkElements;
  std::string graph_name;
  uint64_t graph_hash = 0;
  std::string model_config;          // text of the model's configuration
  std::string trainer_state = "{}";  // a JSON object that only the trainer reads
  std::vector<std::string> states;   // StateSpec::name of what every unit has; frozen ones only "parameters"
  std::vector<ManifestUnit> units;   // in the table's order
  std::vector<ManifestRankFile> rank_files;
  std::vector<ManifestCopiedFile> copied_files;
};

// The oldest format version that can express what the manifest says.
int VersionOf(const CheckpointManifest& manifest);

// The units and parameters of `table`, sliced for `world_size` ranks.
std::vector<ManifestUnit> DescribeUnits(const ParameterTable& table, int world_size);

// The file's text; its first line holds a checksum of the rest.
std::string EncodeManifest(const CheckpointManifest& manifest);

// The inverse; `path` is for messages. Errors: damaged (checksum), a newer version, inconsistent numbers.
absl::StatusOr<CheckpointManifest> DecodeManifest(std::string_view text, std::string_view path);

// Name of a state tensor in a rank file, e.g. "moment1/layers.0.dense".
std::string StateTensorName(std::string_view state, std::string_view unit);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_MANIFEST_H_
