// Sharded checkpoints (FORMAT.md). Writing is collective and all-or-nothing: files go to a temporary directory, are
// synced and renamed together, so a kill at any instant leaves the newest complete checkpoint readable (law 6). Reading
// does not depend on the number of ranks: any range of any unit's state can be read at any world size (law 3).
#ifndef ANGEL_PTM_CHECKPOINT_CHECKPOINT_H_
#define ANGEL_PTM_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/manifest.h"
#include "angel_ptm/checkpoint/unit_map.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/shard.h"
#include "comm/communicator.h"

namespace angel_ptm {

// This rank's slice of one state of a unit. Ranks that hold the whole vector (ZeRO stage 0) also pass only their slice
// of it, so a checkpoint's bytes do not depend on the stage.
struct StateSlice {
  UnitId unit = kNone;
  std::string state = "parameters";  // StateSpec::name
  int64_t begin = 0;                 // rank * slice_elements, in elements of the unit's flat vector
  std::span<const float> data;  // to the slice's end; the padding past the unit's elements may be left out and is cut
  // Instead of `data`: reads the slice's elements [at, at + out.size()), of whatever type and wherever they rest.
  std::function<absl::Status(int64_t at, std::span<float> out)> read;
};

// A small file that a checkpoint stores along with the state, e.g. the tokenizer.
struct CheckpointFile {
  std::string name;  // without a folder
  std::string text;
};

struct CheckpointOptions {
  std::string directory;        // <run>/checkpoints, on a file system that all ranks share; made if missing
  int64_t keep_last = 0;        // complete checkpoints to keep, this one included; 0 keeps all
  int64_t protected_step = -1;  // a checkpoint that stays in addition to those; -1: none
  std::string model_config;     // text of the model's configuration
  // Texts rather than paths: by the time the checkpoint is saved, the files on disk may be another run's.
  std::vector<CheckpointFile> files;
  // How long a rank looks for the directory that rank 0 has just made.
  Patience patience = {.seconds = 10};
};

struct TrainerState {
  int64_t step = 0;
  std::string json = "{}";  // an object: samples seen, skipped steps, seed, ...; handed back as it is
};

struct SavedCheckpoint {
  std::string path;
  int64_t bytes = 0;    // of all ranks' files
  std::string warning;  // rank 0: empty, or sentences: saved, but an old checkpoint could not be removed, ...
};

// Saves the state of all ranks as <directory>/step-<step, 8 digits>; replaces a checkpoint of the same step.
// Collective: every rank passes the same options and step, and one slice for each of the same (unit, state) pairs,
// among which are the parameters of every unit. If any rank fails (disk full, ...), all ranks return the same error,
// the temporary files are removed and earlier checkpoints are untouched; training may go on. `own` must stay unchanged
// during the call. Allocates one 4 MiB buffer and the file header.
absl::StatusOr<SavedCheckpoint> WriteCheckpoint(const CheckpointOptions& options, const Graph& graph,
                                                std::span<const StateSlice> own, const TrainerState& state,
                                                Communicator& communicator);

struct LatestCheckpoint {
  std::string path;     // empty if there is none
  std::string warning;  // empty, or one sentence per ignored directory
};

// Finds the complete checkpoint with the highest step under `directory`. Temporary directories are ignored silently;
// directories without a manifest, or with a manifest but not a checkpoint's name, are ignored with a warning. A
// checkpoint that has a manifest but is damaged is not skipped: opening it is an error, about which the user decides. A
// checkpoint that cannot be looked into (permissions, a failing device) is an error, unless a newer one is complete.
// Finding no checkpoint at all is no error; a directory that cannot be read is. If a run removes what was about to be
// found, the search is repeated.
absl::StatusOr<LatestCheckpoint> FindLatestCheckpoint(const std::string& directory);

// The complete checkpoints under `directory`, by step; none if there is no such directory.
struct CompleteCheckpoint {
  int64_t step = 0;
  std::string path;
};
absl::StatusOr<std::vector<CompleteCheckpoint>> ListCompleteCheckpoints(const std::string& directory);

// Adds the way out to an error met in reading the checkpoint `path`: the newest older checkpoint beside it that is
// whole, if there is one. Checkpoints of up to 1 GiB are verified byte by byte; of larger ones only names and sizes are
// checked.
absl::Status WithOlderCheckpoint(const absl::Status& error, const std::string& path);

// Calls read(path) with the path that find() gives. If read fails and the checkpoint has meanwhile gone, or been
// replaced by another of the same name (by a run that goes on concurrently, and prunes and replaces checkpoints), both
// are called again, a limited number of times. `read` must leave nothing behind when it fails.
absl::Status ReadCheckpointBesideRun(absl::FunctionRef<absl::StatusOr<std::string>()> find,
                                     absl::FunctionRef<absl::Status(const std::string& path)> read);

// The share of rank `rank` in work that `ranks` ranks divide among themselves.
struct RankShare {
  int rank = 0, ranks = 1;
};

// An opened checkpoint. Thread-safe; keeps a bounded number of files open.
class CheckpointReader {
 public:
  // Checks the manifest, its version, that the directory has the name of its step (if it has a checkpoint's name), and
  // that every file is there with its right size. When ranks open a checkpoint together, each checks the manifest and
  // its share of the files. Contents are checked later, when they are read. `patience`: how long to wait for a manifest
  // that another machine has written.
  static absl::StatusOr<CheckpointReader> Open(std::string path, const Patience& patience = {}, RankShare share = {});
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const CheckpointManifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

  // OK if the checkpoint has the parameters of `table`; otherwise names the first difference (parameter, wanted shape,
  // got shape). Batch and sequence sizes may differ, and so may units, where experts are split or were. After this call
  // units are those of the table; before it they are manifest().units. To be called before any other thread reads.
  absl::Status Fit(const ParameterTable& table);
  // Converts values by manifest().units to values by the units of Fit's table: each unit gets the value of the stored
  // unit that has its first parameter. Values that are not one per stored unit are returned unchanged.
  std::vector<int64_t> OfUnits(const std::vector<int64_t>& of_stored) const;

  // out[i] = element begin + i of the unit's flat vector; zero past its elements. Every 4 MiB piece that is touched is
  // checked against its checksum before its values are used. begin >= 0.
  absl::Status ReadRange(UnitId unit, std::string_view state, int64_t begin, std::span<float> out) const;
  // Elements [begin, begin + count) of a unit, all of which the file of one stored rank has, except for zeros.
  struct StoredRange {
    int stored_rank = 0;
    int64_t begin = 0, count = 0;
  };
  // Splits [begin, end) of the unit where another rank's file goes on. A caller that reads ranges of many units in the
  // order of stored ranks opens every file once, however many there are.
  std::vector<StoredRange> StoredRangesOf(UnitId unit, int64_t begin, int64_t end) const;
  // Whether the checkpoint has this state of the unit.
  bool Holds(UnitId unit, std::string_view state) const;

  // The text of one of CheckpointOptions::files, checked.
  absl::StatusOr<std::string> ReadCopiedFile(const std::string& name) const;

  // Opens as many of its files as are kept open: an open file can be read to its end even if a concurrent run prunes
  // the checkpoint.
  absl::Status HoldFiles() const;
  // Reads and checks every byte.
  absl::Status Verify() const;

 private:
  struct RankFile;
  struct OpenFiles;
  CheckpointReader(std::string path, CheckpointManifest manifest);
  absl::StatusOr<std::shared_ptr<const RankFile>> OpenRankFile(int rank) const;
  absl::Status ReadStored(UnitId unit, std::string_view state, int64_t begin, std::span<float> out) const;
  absl::Status ReadPiece(const RankFile& file, const std::string& tensor, int64_t begin, std::span<float> out,
                         std::vector<float>& scratch) const;

  std::string path_;
  CheckpointManifest manifest_;
  UnitMap map_;
  std::unique_ptr<OpenFiles> open_files_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_CHECKPOINT_H_
