#include "angel_ptm/train/merge.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/resume_notes.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"
#include "comm/local.h"

namespace angel_ptm {
namespace {

constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr const char* kTokenizerConfigFile = "tokenizer_config.json";

class Merger {
 public:
  explicit Merger(const MergeOptions& options) : options_(options) {}

  absl::Status Open();
  absl::StatusOr<SavedCheckpoint> Write();

 private:
  absl::Status CheckShares();
  absl::StatusOr<std::vector<CheckpointFile>> FilesOf(const CheckpointReader& checkpoint) const;
  absl::Status CheckSameModel(CheckpointReader& other, const std::vector<CheckpointFile>& files) const;
  absl::Status ReadMean(UnitId unit, int64_t begin, std::span<float> out) const;
  std::string MergedJson() const;

  const MergeOptions& options_;
  double all_shares_ = 0;
  std::vector<CheckpointReader> inputs_;
  std::vector<std::string> states_;  // state to read, by input
  TrainConfig config_;               // of the first input, like the members below
  std::vector<CheckpointFile> files_;
  std::unique_ptr<Task> task_;
  size_t newest_ = 0;
};

absl::Status Merger::CheckShares() {
  for (const MergeInput& input : options_.inputs) {
    if (!(input.share >= 0 && std::isfinite(input.share))) {
      return absl::InvalidArgumentError(
          absl::StrCat("--share: wanted finite numbers of 0 or more, got ", input.share, " for ", input.path));
    }
    all_shares_ += input.share;
  }
  if (all_shares_ > 0 && std::isfinite(all_shares_)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--share: wanted a finite sum above 0, got ", all_shares_));
}

absl::StatusOr<std::vector<CheckpointFile>> Merger::FilesOf(const CheckpointReader& checkpoint) const {
  std::vector<CheckpointFile> files;
  for (const ManifestCopiedFile& file : checkpoint.manifest().copied_files) {
    files.push_back({.name = file.name});
    ASSIGN_OR_RETURN(files.back().text, checkpoint.ReadCopiedFile(file.name));
  }
  return files;
}

std::string TextOf(const std::vector<CheckpointFile>& files, const char* name) {
  const auto it = std::find_if(files.begin(), files.end(), [&](const CheckpointFile& f) { return f.name == name; });
  return it == files.end() ? "" : it->text;
}

absl::Status Merger::CheckSameModel(CheckpointReader& other, const std::vector<CheckpointFile>& files) const {
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(other, &note));
  std::vector<std::string> differences = OtherModelFields(config_, config, *task_);
  if (TextOf(files, kTokenizerFile) != TextOf(files_, kTokenizerFile)) differences.push_back("another tokenizer.json");
  if (differences.empty()) return other.Fit(task_->parameters());
  return absl::FailedPreconditionError(
      absl::StrCat(other.path(), " is another model than ", inputs_[0].path(), ": ", absl::StrJoin(differences, "; ")));
}

absl::Status Merger::Open() {
  RETURN_IF_ERROR(CheckShares());
  ASSIGN_OR_RETURN(const std::vector<CompleteCheckpoint> there,
                   ListCompleteCheckpoints(options_.output + "/checkpoints"));
  if (!there.empty()) {
    return absl::AlreadyExistsError(absl::StrCat("--output: wanted a folder without checkpoints, got ", options_.output,
                                                 ", which has ", there[0].path));
  }
  for (const MergeInput& input : options_.inputs) {
    ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(input.path));
    ASSIGN_OR_RETURN(states_.emplace_back(), WeightsToRead(reader, options_.weights));
    ASSIGN_OR_RETURN(std::vector<CheckpointFile> files, FilesOf(reader));
    if (inputs_.empty()) {
      std::string note;
      ASSIGN_OR_RETURN(config_, StoredConfig(reader, &note));
      const std::string json = TextOf(files, kTokenizerFile);
      int64_t vocabulary = 0;
      if (!json.empty()) {
        ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromJson(json, input.path + "/" + kTokenizerFile,
                                                                   TextOf(files, kTokenizerConfigFile)));
        vocabulary = tokenizer->vocabulary_size();
      }
      task_ = MakeTask(config_, vocabulary);
      files_ = files;
    }
    inputs_.push_back(std::move(reader));
    RETURN_IF_ERROR(CheckSameModel(inputs_.back(), files));
    if (inputs_.back().manifest().step > inputs_[newest_].manifest().step) newest_ = inputs_.size() - 1;
  }
  return absl::OkStatus();
}

absl::Status Merger::ReadMean(UnitId unit, int64_t begin, std::span<float> out) const {
  std::vector<float> one(out.size());
  std::vector<double> sum(out.size());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    RETURN_IF_ERROR(ReadWeights(inputs_[i], states_[i], unit, begin, one));
    for (size_t e = 0; e < sum.size(); ++e) sum[e] += options_.inputs[i].share * static_cast<double>(one[e]);
  }
  for (size_t e = 0; e < sum.size(); ++e) out[e] = static_cast<float>(sum[e] / all_shares_);
  return absl::OkStatus();
}

std::string Merger::MergedJson() const {
  nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
  for (size_t i = 0; i < inputs_.size(); ++i) {
    inputs.push_back({{"checkpoint", inputs_[i].path()},
                      {"step", inputs_[i].manifest().step},
                      {"weights", states_[i]},
                      {"share", options_.inputs[i].share / all_shares_}});
  }
  return nlohmann::ordered_json{{"inputs", inputs}}.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<SavedCheckpoint> Merger::Write() {
  constexpr const char* kMergedFile = "merged.json";
  std::erase_if(files_, [&](const CheckpointFile& file) { return file.name == kMergedFile; });  // of an earlier merge
  files_.push_back({kMergedFile, MergedJson()});
  const ParameterTable& table = task_->parameters();
  std::vector<StateSlice> slices;
  for (UnitId unit = 0; unit < static_cast<UnitId>(table.units.size()); ++unit) {
    slices.push_back({.unit = unit, .state = table.states[kParameterState].name, .begin = 0});
    slices.back().read = [this, unit](int64_t at, std::span<float> out) { return ReadMean(unit, at, out); };
  }
  const CheckpointManifest& newest = inputs_[newest_].manifest();
  LocalWorld world(1);
  const std::unique_ptr<Communicator> communicator = world.Create(0);
  return WriteCheckpoint(
      {.directory = options_.output + "/checkpoints", .model_config = ToText(config_), .files = files_},
      task_->BuildEvaluation(kParameterState), slices, {.step = newest.step, .json = newest.trainer_state},
      *communicator);
}

}  // namespace

absl::StatusOr<SavedCheckpoint> MergeCheckpoints(const MergeOptions& options) {
  ASSIGN_OR_RETURN(const OutputLock lock, OutputLock::Take(options.output, "--output"));
  Merger merger(options);
  RETURN_IF_ERROR(merger.Open());
  return merger.Write();
}

}  // namespace angel_ptm
