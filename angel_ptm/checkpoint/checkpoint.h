// Sharded checkpoints (FORMAT.md). Writing is collective and all-or-nothing: files go to a temporary directory, are
// synced and renamed together, so a kill at any instant leaves the newest complete checkpoint readable (law 6). Reading
// knows nothing of the number of ranks: any range of any unit's state can be read at any world size (law 3).
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

// This rank's slice of one state of a unit. Ranks that hold the whole vector (ZeRO stage 0) pass their slice of it all
// the same, so a checkpoint's bytes do not depend on the stage.
struct StateSlice {
  UnitId unit = kNone;
  std::string state = "parameters";  // StateSpec::name
  int64_t begin = 0;                 // rank * slice_elements, in elements of the unit's flat vector
  std::span<const float> data;  // to the slice's end; the padding past the unit's elements may be left out and is cut
  // Instead of `data`: gives the slice's elements [at, at + out.size()), of whatever type and wherever they rest.
  std::function<absl::Status(int64_t at, std::span<float> out)> read;
};

// A small file that a checkpoint keeps beside the state, e.g. the tokenizer.
struct CheckpointFile {
  std::string name;  // without a folder
  std::string text;
};

struct CheckpointOptions {
  std::string directory;        // <run>/checkpoints, on a file system that all ranks share; made if missing
  int64_t keep_last = 0;        // complete checkpoints to keep, this one included; 0 keeps all
  int64_t protected_step = -1;  // a checkpoint that stays besides those; -1: none
  std::string model_config;     // text of the model's configuration
  // Texts and not paths: what stands on the disk when the checkpoint is saved may be of another run.
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
// Collective: every rank passes the same options and step and one slice per (unit, state), the same ones, the
// parameters of every unit among them. If any rank fails (disk full, ...), all ranks return the same error, the
// temporary files are removed and earlier checkpoints are untouched; training may go on. `own` must stay unchanged
// during the call. Allocates one 4 MiB buffer and the file header.
absl::StatusOr<SavedCheckpoint> WriteCheckpoint(const CheckpointOptions& options, const Graph& graph,
                                                std::span<const StateSlice> own, const TrainerState& state,
                                                Communicator& communicator);

struct LatestCheckpoint {
  std::string path;     // empty if there is none
  std::string warning;  // empty, or one sentence per ignored directory
};

// The complete checkpoint with the highest step under `directory`. Temporary directories are ignored silently,
// directories without a manifest, or with one but not under a checkpoint's name, with a warning. A checkpoint that has
// a manifest but is damaged is not passed over: opening it is an error that the user decides about; nor is one that
// cannot be looked into (permissions, a failing device) unless a newer one is complete. No checkpoint at all is no
// error, a directory that cannot be read is. What a run removes meanwhile is looked for again.
absl::StatusOr<LatestCheckpoint> FindLatestCheckpoint(const std::string& directory);

// The complete checkpoints under `directory`, by step; none if there is no such directory.
struct CompleteCheckpoint {
  int64_t step = 0;
  std::string path;
};
absl::StatusOr<std::vector<CompleteCheckpoint>> ListCompleteCheckpoints(const std::string& directory);

// An error met in reading the checkpoint `path`, with the way out added: the newest older checkpoint beside it that is
// whole, if there is one. Looks through checkpoints below 1 GiB byte by byte, of larger ones at names and sizes.
absl::Status WithOlderCheckpoint(const absl::Status& error, const std::string& path);

// Calls read(path) on the path that find() gives. If that fails and the checkpoint has gone meanwhile, or is another of
// the same name (a run beside goes on, prunes and replaces), both are called again, some times at most. `read` must
// leave nothing behind when it fails.
absl::Status ReadCheckpointBesideRun(absl::FunctionRef<absl::StatusOr<std::string>()> find,
                                     absl::FunctionRef<absl::Status(const std::string& path)> read);

// Of work that `ranks` ranks do alike, what rank `rank` does.
struct RankShare {
  int rank = 0, ranks = 1;
};

// An opened checkpoint. Thread-safe; keeps a bounded number of files open.
class CheckpointReader {
 public:
  // Checks the manifest, its version, that the directory has the name of its step (if it has a checkpoint's name), and
  // that every file is there with its right size: of ranks that open it together each its share of the files, the
  // manifest each. What is read later is checked by who reads it. `patience`: to wait for a manifest that another
  // machine has written.
  static absl::StatusOr<CheckpointReader> Open(std::string path, const Patience& patience = {}, RankShare share = {});
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const CheckpointManifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

  // OK if the checkpoint has the parameters of `table`; otherwise names the first difference (parameter, wanted shape,
  // got shape). Batch and sequence sizes may differ, and units where experts are split or were: from here on units are
  // those of the table, before they are manifest().units. Before any other thread reads.
  absl::Status Fit(const ParameterTable& table);
  // What was stored of each of manifest().units, by the units of Fit's table: that of the first stored unit of each. As
  // it is if it is not of units.
  std::vector<int64_t> OfUnits(const std::vector<int64_t>& of_stored) const;

  // out[i] = element begin + i of the unit's flat vector; zero past its elements. Every 4 MiB piece that is touched is
  // checked against its checksum before its values are used. begin >= 0.
  absl::Status ReadRange(UnitId unit, std::string_view state, int64_t begin, std::span<float> out) const;
  // Elements [begin, begin + count) of a unit that the file of one stored rank has, but for zeros.
  struct StoredRange {
    int stored_rank = 0;
    int64_t begin = 0, count = 0;
  };
  // [begin, end) of the unit, cut where another rank's file goes on. Who reads ranges of many units in the order of
  // stored ranks opens every file once, however many there are.
  std::vector<StoredRange> StoredRangesOf(UnitId unit, int64_t begin, int64_t end) const;
  // Whether it has this state of the unit.
  bool Holds(UnitId unit, std::string_view state) const;

  // Text of one of CheckpointOptions::files, checked.
  absl::StatusOr<std::string> ReadCopiedFile(const std::string& name) const;

  // Opens as many of its files as are kept open: what is open can be read to its end, though a run beside the reader
  // prunes the checkpoint.
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
